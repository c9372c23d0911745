#include "encoder.hpp"

#include "errors.hpp"

namespace muzero_rc {

vpx_codec_enc_cfg_t config_of(const Settings& s) {
  vpx_codec_enc_cfg_t cfg;
  const vpx_codec_err_t code = vpx_codec_enc_config_default(vpx_codec_vp9_cx(), &cfg, 0);
  if (code != VPX_CODEC_OK) throw CodecError("libvpx has no defaults for VP9", code, "");
  cfg.g_w = s.width;
  cfg.g_h = s.height;
  if (s.bit_depth > 8) {
    cfg.g_profile = 2;
    cfg.g_bit_depth = static_cast<vpx_bit_depth_t>(s.bit_depth);
    cfg.g_input_bit_depth = s.bit_depth;
  }
  // One tick per frame, so that a time stamp is a frame number.
  cfg.g_timebase.num = s.fps_den;
  cfg.g_timebase.den = s.fps_num;
  cfg.rc_target_bitrate = s.target_kbps;
  return cfg;
}

Encoder::Encoder(const Settings& s, Pass pass, const std::string* stats)
    : size_{s.width, s.height, s.bit_depth} {
  vpx_codec_enc_cfg_t cfg = config_of(s);
  cfg.g_pass = pass == Pass::kOnly    ? VPX_RC_ONE_PASS
               : pass == Pass::kFirst ? VPX_RC_FIRST_PASS
                                      : VPX_RC_LAST_PASS;
  cfg.g_lag_in_frames = s.lag_in_frames;
  cfg.g_threads = s.threads;
  cfg.rc_end_usage = static_cast<vpx_rc_mode>(s.rc_mode);
  cfg.rc_min_quantizer = s.min_quantizer;
  cfg.rc_max_quantizer = s.max_quantizer;
  cfg.rc_undershoot_pct = s.undershoot_pct;
  cfg.rc_overshoot_pct = s.overshoot_pct;
  cfg.kf_max_dist = s.kf_max_dist;
  if (stats) {
    cfg.rc_twopass_stats_in.buf = const_cast<char*>(stats->data());
    cfg.rc_twopass_stats_in.sz = stats->size();
  }
  const vpx_codec_flags_t flags = s.bit_depth > 8 ? VPX_CODEC_USE_HIGHBITDEPTH : 0;
  check(vpx_codec_enc_init(&codec_, vpx_codec_vp9_cx(), &cfg, flags), "opening the VP9 encoder");
  try {
    control(VP8E_SET_CPUUSED, s.speed, "cpu-used");
    control(VP8E_SET_ENABLEAUTOALTREF, s.auto_alt_ref, "auto-alt-ref");
    control(VP9E_SET_TPL, s.tpl, "tpl");
    control(VP9E_SET_AQ_MODE, s.aq_mode, "aq-mode");
    control(VP8E_SET_ARNR_MAXFRAMES, s.arnr_max_frames, "arnr-maxframes");
    control(VP8E_SET_ARNR_STRENGTH, s.arnr_strength, "arnr-strength");
    control(VP8E_SET_ARNR_TYPE, s.arnr_type, "arnr-type");
    control(VP9E_SET_ROW_MT, s.row_mt, "row-mt");
    control(VP9E_SET_FRAME_PARALLEL_DECODING, s.frame_parallel, "frame-parallel");
    control(VP9E_SET_TILE_COLUMNS, s.tile_columns, "tile-columns");
    control(VP9E_SET_TILE_ROWS, s.tile_rows, "tile-rows");
    if (s.rc_mode == VPX_CQ || s.rc_mode == VPX_Q)
      control(VP8E_SET_CQ_LEVEL, s.cq_level, "cq-level");
    if (s.color_space >= 0) control(VP9E_SET_COLOR_SPACE, s.color_space, "color-space");
    if (s.color_range >= 0) control(VP9E_SET_COLOR_RANGE, s.color_range, "color-range");
  } catch (...) {
    vpx_codec_destroy(&codec_);
    throw;
  }
}

Encoder::~Encoder() { vpx_codec_destroy(&codec_); }

void Encoder::check(vpx_codec_err_t code, const std::string& what) {
  if (code == VPX_CODEC_OK) return;
  const char* detail = vpx_codec_error_detail(&codec_);
  const std::string text = detail ? detail : "";
  throw CodecError(what + " failed: " + vpx_codec_err_to_string(code) +
                       (text.empty() ? "" : " (" + text + ")"),
                   code, text);
}

bool Encoder::encode(const uint8_t* frame, int64_t index) {
  vpx_image_t image;
  if (frame) image = size_.wrap(frame);
  check(vpx_codec_encode(&codec_, frame ? &image : nullptr, index, 1, 0, VPX_DL_GOOD_QUALITY),
        frame ? "coding frame " + std::to_string(index) : "coding the last frames");
  bool any = false;
  vpx_codec_iter_t iter = nullptr;
  while (const vpx_codec_cx_pkt_t* packet = vpx_codec_get_cx_data(&codec_, &iter)) {
    any = true;
    if (packet->kind == VPX_CODEC_STATS_PKT) {
      stats_out_.append(static_cast<const char*>(packet->data.twopass_stats.buf),
                        packet->data.twopass_stats.sz);
    } else if (packet->kind == VPX_CODEC_CX_FRAME_PKT) {
      const auto* data = static_cast<const uint8_t*>(packet->data.frame.buf);
      packets_.push_back({packet->data.frame.pts,
                          (packet->data.frame.flags & VPX_FRAME_IS_KEY) != 0,
                          std::vector<uint8_t>(data, data + packet->data.frame.sz)});
    }
  }
  return any;
}

const vpx_image_t& Encoder::shown() {
  const vpx_image_t* image = vpx_codec_get_preview_frame(&codec_);
  if (!image) throw CodecError("libvpx has no picture of a frame that is shown", 0, "");
  return *image;
}

std::vector<Packet> Encoder::take_packets() {
  std::vector<Packet> taken;
  taken.swap(packets_);
  return taken;
}

}  // namespace muzero_rc
