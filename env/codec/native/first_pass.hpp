// The first pass over a clip, and a whole second pass without any hook.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
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

// The same in steps, for whoever wants the frames and statistics so far on the way.
class FirstPassSteps {
 public:
  FirstPassSteps(const Settings& settings, std::shared_ptr<FrameReader> reader)
      : reader_(std::move(reader)), encoder_(settings, Pass::kFirst) {}

  // Analyses up to `frames` more frames, a copy of each of which goes into `kept`: how many there
  // were; fewer than asked for at the end. libvpx looks ahead, so statistics come later.
  size_t advance(FrameStore& kept, size_t frames, const Heartbeat& heartbeat);
  // To be called at the end, once.
  void finish();
  // Of the frames that were finished since the last call; after finish() with the record that
  // sums them up.
  std::string take_stats() { return encoder_.take_stats(); }

 private:
  std::shared_ptr<FrameReader> reader_;
  Encoder encoder_;
  int64_t count_ = 0;
};

// Fields of libvpx's FIRSTPASS_STATS that are statistics, in its order.
constexpr int kFirstPassFields = 25;
// Doubles per record: the statistics and a spatial layer number.
constexpr int kFirstPassRecord = 26;

// A whole encode as any program would run it, no callback: the second pass if `stats` are
// given, else one-pass encoding.
std::vector<Packet> encode_plain(const Settings& settings, FrameReader& reader,
                                 const std::string* stats, const Heartbeat& heartbeat);

}  // namespace muzero_rc
