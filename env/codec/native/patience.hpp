// How long to wait for an encoder that may hang.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

namespace muzero_rc {

// Tells an encoder that hangs from one that is slow, on a busy machine or in a process that was
// stopped. It hangs if its thread has no hundredth of a core for the limit, or works for the limit
// on one answer. Time in which this process itself was stopped is not waited.
class Patience {
 public:
  // `pixels` of a picture: those above 1080 lines may take longer, in proportion.
  Patience(double limit_s, double pixels)
      : limit_s_(limit_s), work_limit_s_(limit_s * std::max(1.0, pixels / (1920.0 * 1080.0))) {}

  // A thread that is waited for. It must not have been joined.
  void watch(std::thread& thread) {
    Watched watched{};
    watched.known = pthread_getcpuclockid(thread.native_handle(), &watched.clock) == 0;
    watched.begun_s = read(watched, 0.0);
    watched_.push_back(watched);
  }

  // Some more was waited: call it several times a second.
  void waited() {
    const auto now = Clock::now();
    waited_s_ += std::min(std::chrono::duration<double>(now - last_).count(), kLongestSlice);
    last_ = now;
    for (const Watched& watched : watched_)
      worked_s_ = std::max(worked_s_, read(watched, watched.begun_s) - watched.begun_s);
  }

  bool over() const {
    return waited_s_ - kWaitsPerWork * worked_s_ >= limit_s_ || worked_s_ >= work_limit_s_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  // By hand: a thread that polls for frames has less of a core, one on a busy machine more.
  static constexpr double kWaitsPerWork = 100.0;
  // Seconds, by hand, two heartbeats: a process that was stopped has waited no longer.
  static constexpr double kLongestSlice = 0.2;

  struct Watched {
    clockid_t clock;
    bool known;
    double begun_s;
  };

  static double read(const Watched& watched, double otherwise) {
    timespec now{};
    if (!watched.known || clock_gettime(watched.clock, &now) != 0) return otherwise;
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

  double limit_s_;
  double work_limit_s_;
  double waited_s_ = 0.0;
  double worked_s_ = 0.0;
  Clock::time_point last_ = Clock::now();
  std::vector<Watched> watched_;
};

}  // namespace muzero_rc
