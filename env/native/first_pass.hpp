// The first pass over a clip, and a whole second pass without any hook.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "encoder.hpp"

namespace muzero_rc {

struct BlockStats {
  int rows = 0;
  int cols = 0;
  bool out_of_memory = false;
  // [frames, rows, cols, 4]: intra error, inter error (-1: none), motion down, right (1/8 px)
  std::vector<int32_t> values;
};

// libvpx's statistics of all frames, packed as it wants them back in the second pass.
// `progress` is told how many frames are done; it may throw to stop.
std::string run_first_pass(const Settings& settings, FrameReader& reader, BlockStats* blocks,
                           const Progress& progress);

// Fields of libvpx's FIRSTPASS_STATS that are statistics, in its order.
constexpr int kFirstPassFields = 25;
// Doubles per record: the statistics and a spatial layer number.
constexpr int kFirstPassRecord = 26;

// A whole encode as any program would run it, no callback: the second pass if `stats` are
// given, else one-pass encoding.
std::vector<Packet> encode_plain(const Settings& settings, FrameReader& reader,
                                 const std::string* stats, const Heartbeat& heartbeat);

}  // namespace muzero_rc
