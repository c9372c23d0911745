// One pass of libvpx's real-time encoder at a constant quantizer, of which only the costs are kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "encoder.hpp"
#include "frames.hpp"

namespace muzero_rc {

struct RealtimeFrame {
  int64_t bits = 0;
  // Of all samples of the three planes, on the scale of 8 bits.
  double squared_error = 0.0;
};

class RealtimeEncoder {
 public:
  // Size, depth and rate come from `settings`; quantizer is libvpx's, 0 to 63. Throws CodecError.
  RealtimeEncoder(const Settings& settings, int quantizer);
  ~RealtimeEncoder();
  RealtimeEncoder(const RealtimeEncoder&) = delete;
  RealtimeEncoder& operator=(const RealtimeEncoder&) = delete;

  // Codes `count` frames of a store, those that follow what was coded so far. Throws CodecError.
  std::vector<RealtimeFrame> encode(const FrameStore& frames, size_t first, size_t count,
                                    const Progress& progress);

 private:
  RealtimeFrame encode_one(const uint8_t* frame);
  void check(vpx_codec_err_t code, const std::string& what);

  FrameSize size_;
  vpx_codec_ctx_t codec_{};
  int64_t coded_ = 0;
};

}  // namespace muzero_rc
