// The first pass over a clip, and a whole second pass without any hook.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "encoder.hpp"

namespace muzero_rc {

// Is given the blocks of a frame once it is analysed, [rows, cols, 4]: intra error, inter
// error (-1: none), motion down, right (1/8 px). May throw to stop. The values are gone
// after the call.
using BlockSink = std::function<void(int rows, int cols, const int32_t* values)>;

// libvpx's statistics of all frames, packed as it wants them back in the second pass.
// `progress` is told how many frames are done; it may throw to stop. `blocks` may be empty.
std::string run_first_pass(const Settings& settings, FrameReader& reader, const BlockSink& blocks,
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
