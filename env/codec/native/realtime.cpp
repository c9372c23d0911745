#include "realtime.hpp"

#include <string>

#include "errors.hpp"

namespace muzero_rc {
namespace {
constexpr int kSpeed = 8;  // cpu-used; set by hand: of the range 5 to 9 that libvpx's guide gives

class Codec {
 public:
  Codec(const Settings& s, int quantizer) : size_{s.width, s.height, s.bit_depth} {
    vpx_codec_enc_cfg_t cfg = config_of(s);
    cfg.g_pass = VPX_RC_ONE_PASS;
    cfg.g_lag_in_frames = 0;
    cfg.g_threads = 1;
    cfg.rc_end_usage = VPX_Q;
    cfg.rc_min_quantizer = cfg.rc_max_quantizer = quantizer;
    cfg.kf_mode = VPX_KF_DISABLED;  // a chunk's key frames are known; here it has the first one
    vpx_codec_flags_t flags = VPX_CODEC_USE_PSNR;
    if (s.bit_depth > 8) flags |= VPX_CODEC_USE_HIGHBITDEPTH;
    check(vpx_codec_enc_init(&codec_, vpx_codec_vp9_cx(), &cfg, flags), "opening the encoder");
    try {
      check(vpx_codec_control(&codec_, VP8E_SET_CPUUSED, kSpeed), "cpu-used");
      check(vpx_codec_control(&codec_, VP8E_SET_CQ_LEVEL, quantizer), "cq-level");
    } catch (...) {
      vpx_codec_destroy(&codec_);
      throw;
    }
  }
  ~Codec() { vpx_codec_destroy(&codec_); }
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;

  RealtimeFrame encode(const uint8_t* frame, int64_t index) {
    vpx_image_t image = size_.wrap(frame);
    check(vpx_codec_encode(&codec_, &image, index, 1, 0, VPX_DL_REALTIME),
          "coding frame " + std::to_string(index));
    RealtimeFrame found;
    vpx_codec_iter_t iter = nullptr;
    const int more_bits = 2 * (size_.bit_depth - 8);
    while (const vpx_codec_cx_pkt_t* packet = vpx_codec_get_cx_data(&codec_, &iter)) {
      if (packet->kind == VPX_CODEC_CX_FRAME_PKT)
        found.bits += 8 * static_cast<int64_t>(packet->data.frame.sz);
      else if (packet->kind == VPX_CODEC_PSNR_PKT)
        found.squared_error +=
            static_cast<double>(packet->data.psnr.sse[0]) / static_cast<double>(1 << more_bits);
    }
    return found;
  }

 private:
  void check(vpx_codec_err_t code, const std::string& what) {
    if (code == VPX_CODEC_OK) return;
    const char* detail = vpx_codec_error_detail(&codec_);
    throw CodecError(what + " in real time failed: " + vpx_codec_err_to_string(code), code,
                     detail ? detail : "");
  }

  FrameSize size_;
  vpx_codec_ctx_t codec_{};
};
}  // namespace

std::vector<RealtimeFrame> encode_in_realtime(const FrameStore& frames, const Settings& settings,
                                              int quantizer, const Progress& progress) {
  Codec codec(settings, quantizer);
  std::vector<RealtimeFrame> found;
  for (size_t index = 0; index < frames.count(); ++index) {
    progress(static_cast<int64_t>(index));
    found.push_back(codec.encode(frames.frame(index), static_cast<int64_t>(index)));
  }
  return found;
}

}  // namespace muzero_rc
