#include "realtime.hpp"

#include "errors.hpp"

namespace muzero_rc {
namespace {
constexpr int kSpeed = 8;  // cpu-used; set by hand: of the range 5 to 9 that libvpx's guide gives
}  // namespace

RealtimeEncoder::RealtimeEncoder(const Settings& s, int quantizer)
    : size_{s.width, s.height, s.bit_depth} {
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

RealtimeEncoder::~RealtimeEncoder() { vpx_codec_destroy(&codec_); }

void RealtimeEncoder::check(vpx_codec_err_t code, const std::string& what) {
  if (code == VPX_CODEC_OK) return;
  const char* detail = vpx_codec_error_detail(&codec_);
  throw CodecError(what + " in real time failed: " + vpx_codec_err_to_string(code), code,
                   detail ? detail : "");
}

std::vector<RealtimeFrame> RealtimeEncoder::encode(const FrameStore& frames, size_t first,
                                                   size_t count, const Progress& progress) {
  std::vector<RealtimeFrame> found;
  for (size_t index = first; index < first + count; ++index) {
    progress(static_cast<int64_t>(index - first));
    found.push_back(encode_one(frames.frame(index)));
  }
  return found;
}

RealtimeFrame RealtimeEncoder::encode_one(const uint8_t* frame) {
  vpx_image_t image = size_.wrap(frame);
  const int64_t index = coded_++;
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

}  // namespace muzero_rc
