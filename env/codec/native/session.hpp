// The second pass as a sequence of questions: the encoder runs in a thread of its own and
// stops before each coded frame until it is told the qindex.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "encoder.hpp"
#include "partition.hpp"
#include "patience.hpp"
#include "stream.hpp"

namespace muzero_rc {

struct Result {
  vpx_rc_encodeframe_result_t values;
  int coding_index;       // -1: no frame was coded, a buffer was shown
  double cpu_s;           // CPU time of the encoder thread since the result before
  std::string partition;  // packed; empty unless it was asked for
  std::optional<uint32_t> checksum;  // of what is shown, if anything is and it was asked for
};

// vpx_rc_encodeframe_decision_t, as its owner; what is not said changes nothing.
struct FrameDecision {
  int qindex = -1;                   // 0..255, or -1 to leave the frame to libvpx
  int speed = -1;                    // 0..9 for this frame alone, -1 for the stream's
  int features = 0;                  // vpx_rc_speed_features: shortcuts that it goes without
  bool frozen_rate_account = false;  // rate control takes the frame for as dear as planned
  int model_qindex = -1;             // 0..255: what its model of bits learns instead of what
  int model_bits = 0;                // the frame really was; with 0 bits nothing
  std::string partition;             // of this frame in another encode, packed; empty: none
  int coarser = 0;                   // levels, 0..3, that its blocks may be larger than there
  int finer = 0;                     // and smaller
  int show_existing = 0;             // vpx_rc_show_existing
  double show_existing_price = 0;    // dB that a frame may lose for each bit saved; 0: any
  double show_existing_change = 0;   // levels that a block may differ from it; 0 likewise
  int next_gop_frames = 0;           // most frames of the group that starts next, in the place
  int next_gop_layers = 0;           // of the stream's limit; most layers; 0 for the stream's

  // Throws InputError if a field is out of range.
  void check() const;
};

// Limits of the groups of pictures that start with a shown frame or after it, each 0 for
// libvpx's own.
struct GopLimits {
  int from;
  int frames;
  int layers;
};

class Session {
 public:
  // `gops` in ascending order.
  Session(const Settings& settings, std::shared_ptr<FrameReader> reader, std::string stats,
          const std::string& output, double timeout_s, bool keep_partitions, bool checksums,
          std::vector<GopLimits> gops);
  ~Session() { close(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The frame that waits for its qindex; nullopt after the last one. Waits for it.
  std::optional<vpx_rc_encodeframe_info_t> next(const Heartbeat& heartbeat);
  // Answers the waiting frame. Does not wait. Throws InputError if it is out of range.
  void submit(const FrameDecision& decision);
  // The result of the frame last submitted. Waits for it.
  Result result(const Heartbeat& heartbeat);
  // Results that belong to no decision, since the last call: buffers shown again.
  std::vector<Result> take_uncoded();
  // True if next() would not wait.
  bool ready() const;
  // The finished stream; only after next() has returned nullopt.
  std::shared_ptr<Stream> finish();
  // Stops the encoder and frees everything, within a frame's time; may be called at any time.
  void close();
  // CPU time of the encoder thread up to the last question, result or its end, seconds.
  double encode_cpu_s() const;

  // Waits until one of the sessions is ready(); false after `timeout_s`.
  static bool wait_any(const std::vector<Session*>& sessions, double timeout_s,
                       const Heartbeat& heartbeat);

 private:
  struct State;
  // Throws if this process was forked from the session's: the thread is not in it.
  void check_process() const;
  void wait(const std::function<bool()>& done, const Heartbeat& heartbeat, const char* what);
  Patience patience() const;

  // Shared with the thread, which may outlive a session whose encoder hangs.
  std::shared_ptr<State> state_;
  std::unique_ptr<std::thread> thread_;
};

}  // namespace muzero_rc
