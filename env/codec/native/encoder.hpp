// One libvpx VP9 encoder: settings in, packets out, errors as exceptions.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vpx/vp8cx.h"
#include "vpx/vpx_encoder.h"
#include "vpx/vpx_ext_ratectrl.h"

#include "frames.hpp"

namespace muzero_rc {

// As muzero_rc.env.codec.settings.EncoderSettings, plus the clip's size and frame rate.
struct Settings {
  int width = 0;
  int height = 0;
  int fps_num = 0;
  int fps_den = 0;
  int target_kbps = 0;
  int speed = 1;
  int auto_alt_ref = 6;
  int lag_in_frames = 25;
  int tpl = 1;
  int aq_mode = 0;
  int arnr_max_frames = 7;
  int arnr_strength = 5;
  int arnr_type = 3;
  int kf_max_dist = 128;
  int threads = 1;
  int row_mt = 0;
  int frame_parallel = 1;
  int tile_columns = 0;
  int tile_rows = 0;
  int rc_mode = 0;  // vpx_rc_mode: VPX_VBR 0, VPX_CBR 1, VPX_CQ 2, VPX_Q 3
  int cq_level = 10;
  int min_quantizer = 0;
  int max_quantizer = 63;
  int undershoot_pct = 25;
  int overshoot_pct = 25;
  int color_space = -1;  // vpx_color_space_t, -1: leave to libvpx
  int color_range = -1;  // vpx_color_range_t, -1: leave to libvpx
  int bit_depth = 8;     // 8, 10 or 12: of the frames and of the stream
};

struct Packet {
  int64_t pts;
  bool key;
  std::vector<uint8_t> data;
};

// libvpx's defaults, with size, depth, rate and target of the settings.
vpx_codec_enc_cfg_t config_of(const Settings& settings);

enum class Pass { kOnly, kFirst, kSecond };

class Encoder {
 public:
  // `stats` is the first pass's output for the second one, kept alive by the caller.
  Encoder(const Settings& settings, Pass pass, const std::string* stats = nullptr);
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  void set_rate_control(vpx_rc_funcs_t* funcs) { control(VP9E_SET_EXTERNAL_RATE_CONTROL, funcs, "external rate control"); }
  void set_block_sink(vpx_fp_block_sink_t* sink) { control(VP9E_SET_FIRSTPASS_BLOCK_SINK, sink, "first-pass block sink"); }

  // Codes frame number `index`; nullptr flushes. True if libvpx gave any packet.
  bool encode(const uint8_t* frame, int64_t index);

  // What a decoder will show for the frame that was just coded; for callbacks of rate control.
  const vpx_image_t& shown();

  // Since the last call: frame packets, or first-pass statistics.
  std::vector<Packet> take_packets();
  std::string take_stats() { return std::exchange(stats_out_, {}); }

 private:
  template <typename T>
  void control(int id, T value, const char* what) {
    check(vpx_codec_control_(&codec_, id, value), what);
  }
  void check(vpx_codec_err_t code, const std::string& what);

  FrameSize size_;
  vpx_codec_ctx_t codec_{};
  std::vector<Packet> packets_;
  std::string stats_out_;
};

}  // namespace muzero_rc
