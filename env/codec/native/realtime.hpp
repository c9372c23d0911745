// One pass of libvpx's real-time encoder at a constant quantizer, of which only the costs are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "encoder.hpp"
#include "frames.hpp"

namespace muzero_rc {

struct RealtimeFrame {
  int64_t bits = 0;
  // Of all samples of the three planes, on the scale of 8 bits.
  double squared_error = 0.0;
};

// Size, depth and rate come from `settings`; quantizer is libvpx's, 0 to 63. Throws CodecError.
std::vector<RealtimeFrame> encode_in_realtime(const FrameStore& frames, const Settings& settings,
                                              int quantizer, const Progress& progress);

}  // namespace muzero_rc
