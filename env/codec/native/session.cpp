#include "session.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <new>
#include <string_view>

#include "checksum.hpp"
#include "errors.hpp"

namespace muzero_rc {
namespace {

constexpr auto kHeartbeat = std::chrono::milliseconds(100);

// CPU time of the calling thread, seconds.
double thread_cpu_s() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void check_range(std::string_view name, int value, int lowest, int highest) {
  if (value < lowest || value > highest)
    throw InputError(std::string(name) + " must be " + std::to_string(lowest) + ".." +
                     std::to_string(highest) + ", not " + std::to_string(value));
}

void check_not_negative(std::string_view name, double value) {
  if (!std::isfinite(value) || value < 0)
    throw InputError(std::string(name) + " must be a number from 0, not " +
                     std::to_string(value));
}

// Squared errors of deeper samples as those of 8 bits, so that the PSNR with a peak of 255 is
// that of the depth's own peak.
int64_t error_of_8_bits(int64_t error, int bit_depth) {
  if (bit_depth == 8) return error;
  const double scale = 255.0 / ((1 << bit_depth) - 1);
  return std::llround(static_cast<double>(error) * scale * scale);
}

// Unwinds the encoder thread between libvpx calls; libvpx itself is unwound by an error code.
struct Cancelled {};

// One for the whole process, for wait_any(): "some session has moved".
std::mutex any_mutex;
std::condition_variable any_moved;

// A fork may come while another thread has the mutex or waits; neither is in the child, which
// needs fresh ones for sessions of its own. They guard no data.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  new (&any_mutex) std::mutex;
  new (&any_moved) std::condition_variable;
});

}  // namespace

void FrameDecision::check() const {
  check_range("qindex", qindex, -1, 255);
  check_range("speed", speed, -1, 9);
  check_range("features", features, 0,
              VPX_RC_ALL_MODES | VPX_RC_ALL_TRANSFORMS | VPX_RC_QUICK_MOTION);
  check_range("model_qindex", model_qindex, -1, 255);
  check_not_negative("model_bits", model_bits);
  check_range("coarser", coarser, 0, 3);
  check_range("finer", finer, 0, 3);
  check_range("show_existing", show_existing, VPX_RC_SHOW_EXISTING_NEVER,
              VPX_RC_SHOW_EXISTING_ALWAYS);
  check_not_negative("show_existing_price", show_existing_price);
  check_not_negative("show_existing_change", show_existing_change);
  check_not_negative("next_gop_frames", next_gop_frames);
  check_not_negative("next_gop_layers", next_gop_layers);
}

struct Session::State {
  enum class Phase { kRunning, kWaiting, kDone, kFailed };

  const pid_t process = getpid();
  Settings settings;
  std::shared_ptr<FrameReader> reader;
  std::string stats;
  std::shared_ptr<Stream> stream;
  double timeout_s = 0;
  bool keep_partitions = false;
  bool checksums = false;
  std::vector<GopLimits> gops;

  mutable std::mutex mutex;
  std::condition_variable moved;
  Phase phase = Phase::kRunning;
  bool cancelled = false;
  bool closed = false;
  bool exited = false;
  bool submitted = false;  // a result is owed
  std::exception_ptr error;
  vpx_rc_encodeframe_info_t info{};
  FrameDecision decided;
  std::vector<uint32_t> near_partition;  // the decision's; libvpx reads it until the next frame
  int next_gop_frames = 0;               // what was last decided for the group that starts next
  int next_gop_layers = 0;
  std::optional<Result> result;
  std::vector<Result> uncoded;

  double cpu_s = 0;  // of the encoder thread, as it last said

  // Touched by the encoder thread alone.
  int coding_index = -1;
  double result_cpu_s = 0;  // when it gave its last result
  Encoder* encoder = nullptr;

  size_t superblocks() const {
    return static_cast<size_t>((settings.width + 63) / 64) * ((settings.height + 63) / 64);
  }

  void announce() {
    moved.notify_all();
    { std::lock_guard<std::mutex> lock(any_mutex); }
    any_moved.notify_all();
  }

  void check_cancelled() const {
    std::lock_guard<std::mutex> lock(mutex);
    if (cancelled) throw Cancelled();
  }

  vpx_rc_status_t decide(const vpx_rc_encodeframe_info_t* frame,
                         vpx_rc_encodeframe_decision_t* decision) {
    {
      std::unique_lock<std::mutex> lock(mutex);
      if (cancelled) return VPX_RC_ERROR;
      cpu_s = thread_cpu_s();
      info = *frame;
      info.tpl_intra_cost >>= settings.bit_depth - 8;
      info.tpl_mc_dep_cost >>= settings.bit_depth - 8;
      coding_index = frame->coding_index;
      phase = Phase::kWaiting;
    }
    announce();
    std::unique_lock<std::mutex> lock(mutex);
    moved.wait(lock, [&] { return cancelled || phase == Phase::kRunning; });
    if (cancelled) return VPX_RC_ERROR;
    decision->q_index = decided.qindex;
    decision->max_frame_size = 0;
    decision->speed = decided.speed;
    decision->speed_features = decided.features;
    decision->frozen_account = decided.frozen_rate_account;
    decision->model_qindex = decided.model_qindex;
    decision->model_bits = decided.model_bits;
    decision->partition = near_partition.empty() ? nullptr : near_partition.data();
    decision->coarser = decided.coarser;
    decision->finer = decided.finer;
    decision->show_existing = decided.show_existing;
    decision->show_existing_price = decided.show_existing_price;
    decision->show_existing_change = decided.show_existing_change;
    return VPX_RC_OK;
  }

  // Asked once a group, before its first frame is announced.
  void limit_gop(int show_index, vpx_rc_gop_limits_t* limits) {
    const auto next =
        std::upper_bound(gops.begin(), gops.end(), show_index,
                         [](int index, const GopLimits& gop) { return index < gop.from; });
    if (next != gops.begin()) {
      limits->frames = std::prev(next)->frames;
      limits->layers = std::prev(next)->layers;
    }
    std::lock_guard<std::mutex> lock(mutex);
    if (next_gop_frames > 0) limits->frames = next_gop_frames;
    if (next_gop_layers > 0) limits->layers = next_gop_layers;
    next_gop_frames = next_gop_layers = 0;
  }

  vpx_rc_status_t receive(const vpx_rc_encodeframe_result_t* values) {
    try {
      std::optional<uint32_t> checksum;
      if (checksums && (values->show_frame || values->show_existing))
        checksum = checksum_of(encoder->shown());
      std::lock_guard<std::mutex> lock(mutex);
      if (cancelled) return VPX_RC_ERROR;
      cpu_s = thread_cpu_s();
      Result given{*values, values->show_existing ? -1 : coding_index, cpu_s - result_cpu_s, "",
                   checksum};
      result_cpu_s = cpu_s;
      if (keep_partitions && values->partition != nullptr)
        given.partition = pack_partition(values->partition, superblocks());
      given.values.partition = nullptr;
      given.values.sse = error_of_8_bits(values->sse, settings.bit_depth);
      for (int64_t& error : given.values.sse_yuv)
        error = error_of_8_bits(error, settings.bit_depth);
      if (values->show_existing) {
        uncoded.push_back(given);
      } else {
        result = given;
      }
    } catch (const std::exception&) {  // must not unwind through libvpx's C frames
      return VPX_RC_ERROR;
    }
    announce();
    return VPX_RC_OK;
  }

  void run() {
    std::exception_ptr failure;
    try {
      vpx_rc_funcs_t funcs{};
      funcs.create_model = [](void* priv, const vpx_rc_config_t*, vpx_rc_model_t* model) {
        *model = priv;
        return VPX_RC_OK;
      };
      funcs.send_firstpass_stats = [](vpx_rc_model_t, const vpx_rc_firstpass_stats_t*) {
        return VPX_RC_OK;
      };
      funcs.get_encodeframe_decision = [](vpx_rc_model_t model,
                                          const vpx_rc_encodeframe_info_t* frame,
                                          vpx_rc_encodeframe_decision_t* decision) {
        return static_cast<State*>(model)->decide(frame, decision);
      };
      funcs.update_encodeframe_result = [](vpx_rc_model_t model,
                                           const vpx_rc_encodeframe_result_t* values) {
        return static_cast<State*>(model)->receive(values);
      };
      funcs.get_gop_limits = [](vpx_rc_model_t model, int show_index,
                                vpx_rc_gop_limits_t* limits) {
        static_cast<State*>(model)->limit_gop(show_index, limits);
        return VPX_RC_OK;
      };
      funcs.delete_model = [](vpx_rc_model_t) { return VPX_RC_OK; };
      funcs.priv = this;
      Encoder coder(settings, Pass::kSecond, &stats);
      encoder = &coder;
      coder.set_rate_control(&funcs);
      const Heartbeat heartbeat = [this] { check_cancelled(); };
      int64_t index = 0;
      while (const uint8_t* frame = reader->next(heartbeat)) {
        check_cancelled();
        coder.encode(frame, index++);
        for (const Packet& packet : coder.take_packets()) stream->add(packet);
      }
      bool more = true;
      while (more) {
        check_cancelled();
        more = coder.encode(nullptr, -1);
        for (const Packet& packet : coder.take_packets()) stream->add(packet);
      }
      stream->finish();
    } catch (const Cancelled&) {
      failure = std::make_exception_ptr(ClosedError("the session is closed"));
    } catch (...) {
      failure = std::current_exception();
    }
    {
      std::lock_guard<std::mutex> lock(mutex);
      cpu_s = thread_cpu_s();
      error = failure;
      phase = failure ? Phase::kFailed : Phase::kDone;
      exited = true;
    }
    announce();
  }
};

Session::Session(const Settings& settings, std::shared_ptr<FrameReader> reader,
                 std::string stats, const std::string& output, double timeout_s,
                 bool keep_partitions, bool checksums, std::vector<GopLimits> gops)
    : state_(std::make_shared<State>()) {
  state_->settings = settings;
  state_->reader = std::move(reader);
  state_->stats = std::move(stats);
  state_->stream = std::make_shared<Stream>(settings, output);
  state_->timeout_s = timeout_s;
  state_->keep_partitions = keep_partitions;
  state_->checksums = checksums;
  state_->gops = std::move(gops);
  thread_ = std::make_unique<std::thread>([state = state_] { state->run(); });
}

void Session::check_process() const {
  if (getpid() != state_->process)
    throw CodecError("the encoder does not survive a fork; make the environment in the child",
                     0, "");
}

void Session::wait(const std::function<bool()>& done, const Heartbeat& heartbeat,
                   const char* what) {
  check_process();
  State& state = *state_;
  Patience patience = this->patience();
  std::unique_lock<std::mutex> lock(state.mutex);
  while (true) {
    if (state.closed) throw ClosedError("the session is closed");
    if (done()) return;
    if (state.phase == State::Phase::kFailed) std::rethrow_exception(state.error);
    if (state.phase == State::Phase::kDone)
      throw ClosedError(std::string(what) + ": all frames are coded");
    if (patience.over())
      throw TimeoutError("the encoder did not answer within " +
                         std::to_string(static_cast<int>(state.timeout_s)) + " s (" + what + ")");
    if (state.moved.wait_for(lock, kHeartbeat) == std::cv_status::timeout) {
      lock.unlock();
      heartbeat();
      patience.waited();
      lock.lock();
    }
  }
}

Patience Session::patience() const {
  Patience found(state_->timeout_s,
                 static_cast<double>(state_->settings.width) * state_->settings.height);
  if (thread_) found.watch(*thread_);
  return found;
}

std::optional<vpx_rc_encodeframe_info_t> Session::next(const Heartbeat& heartbeat) {
  State& state = *state_;
  wait([&] { return state.phase == State::Phase::kWaiting || state.phase == State::Phase::kDone; },
       heartbeat, "waiting for the next frame");
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.phase != State::Phase::kWaiting) return std::nullopt;
  return state.info;
}

void Session::submit(const FrameDecision& decision) {
  decision.check();
  check_process();
  State& state = *state_;
  std::vector<uint32_t> partition;
  if (!decision.partition.empty())
    partition = unpack_partition(decision.partition, state.superblocks());
  {
    std::lock_guard<std::mutex> lock(state.mutex);
    if (state.closed) throw ClosedError("the session is closed");
    if (state.phase != State::Phase::kWaiting)
      throw ClosedError("no frame waits for a qindex: call next() first");
    state.decided = decision;
    if (decision.next_gop_frames > 0) state.next_gop_frames = decision.next_gop_frames;
    if (decision.next_gop_layers > 0) state.next_gop_layers = decision.next_gop_layers;
    state.near_partition = std::move(partition);
    state.result.reset();
    state.submitted = true;
    state.phase = State::Phase::kRunning;
  }
  state.moved.notify_all();
}

Result Session::result(const Heartbeat& heartbeat) {
  check_process();
  State& state = *state_;
  {
    std::lock_guard<std::mutex> lock(state.mutex);
    if (!state.closed && !state.submitted)
      throw ClosedError("no frame was submitted: call submit() first");
  }
  wait([&] { return state.result.has_value(); }, heartbeat, "coding a frame");
  std::lock_guard<std::mutex> lock(state.mutex);
  state.submitted = false;
  return *state.result;
}

std::vector<Result> Session::take_uncoded() {
  check_process();
  std::lock_guard<std::mutex> lock(state_->mutex);
  std::vector<Result> taken;
  taken.swap(state_->uncoded);
  return taken;
}

bool Session::ready() const {
  check_process();
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->phase != State::Phase::kRunning;
}

std::shared_ptr<Stream> Session::finish() {
  check_process();
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->closed) throw ClosedError("the session is closed");
  if (state_->phase == State::Phase::kFailed) std::rethrow_exception(state_->error);
  if (state_->phase != State::Phase::kDone)
    throw ClosedError("frames are left to code: call next() until it returns None");
  return state_->stream;
}

double Session::encode_cpu_s() const {
  check_process();
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->cpu_s;
}

void Session::close() {
  State& state = *state_;
  if (!thread_) return;
  if (getpid() != state.process) {
    // Nothing here may be waited for, unlocked or flushed into the parent's file: let it lie.
    thread_.release();
    new std::shared_ptr<State>(state_);
    return;
  }
  bool exited;
  {
    std::unique_lock<std::mutex> lock(state.mutex);
    state.cancelled = true;
    state.closed = true;
    state.moved.notify_all();
    Patience patience = this->patience();
    const auto done = [&] { return state.exited; };
    while (!state.moved.wait_for(lock, kHeartbeat, done) && !patience.over())
      patience.waited();
    exited = state.exited;
  }
  if (exited) {
    thread_->join();
    // Here and not in the encoder thread, nor under the mutex: its owner may be Python, and
    // letting go of it takes the GIL.
    state.reader.reset();
    std::lock_guard<std::mutex> lock(state.mutex);
    state.stats.clear();
    state.stream.reset();
  } else {
    thread_->detach();  // libvpx hangs; its memory stays with the thread
  }
  thread_.reset();
}

bool Session::wait_any(const std::vector<Session*>& sessions, double timeout_s,
                       const Heartbeat& heartbeat) {
  double pixels = 0.0;
  for (const Session* session : sessions) {
    const Settings& settings = session->state_->settings;
    pixels = std::max(pixels, static_cast<double>(settings.width) * settings.height);
  }
  Patience patience(timeout_s, pixels);
  for (const Session* session : sessions)
    if (session->thread_) patience.watch(*session->thread_);
  std::unique_lock<std::mutex> lock(any_mutex);
  while (true) {
    for (const Session* session : sessions)
      if (session->ready()) return true;
    if (patience.over()) return false;
    if (any_moved.wait_for(lock, kHeartbeat) == std::cv_status::timeout) {
      lock.unlock();
      heartbeat();
      patience.waited();
      lock.lock();
    }
  }
}

}  // namespace muzero_rc
