// Raw frames, I420: stored once in memory and shared, or read from a pipe as needed. Samples
// of more than 8 bits take two bytes each, little endian.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "vpx/vpx_image.h"

namespace muzero_rc {

// Called often during long work, at least ten times a second; throws to stop it.
using Heartbeat = std::function<void()>;
// Likewise, told how many frames are done.
using Progress = std::function<void(int64_t)>;

struct FrameSize {
  int width = 0;
  int height = 0;
  int bit_depth = 8;
  int sample_bytes() const { return bit_depth > 8 ? 2 : 1; }
  int chroma_width() const { return (width + 1) / 2; }
  int chroma_height() const { return (height + 1) / 2; }
  size_t bytes() const {
    const size_t luma = static_cast<size_t>(width) * height;
    const size_t chroma = static_cast<size_t>(chroma_width()) * chroma_height();
    return sample_bytes() * (luma + 2 * chroma);
  }
  // An image that shows `data` (frame of this size), without copying it.
  vpx_image_t wrap(const uint8_t* data) const;
};

// Reads `size` bytes of a frame from a pipe. False at the end of the stream; throws
// InputError for a frame cut short.
bool read_frame(int fd, uint8_t* data, size_t size, const Heartbeat& heartbeat);

// All frames of a clip in memory, immutable once filled, shared by every session on it.
class FrameStore {
 public:
  explicit FrameStore(FrameSize size) : size_(size) {}
  FrameStore(const FrameStore&) = delete;
  FrameStore& operator=(const FrameStore&) = delete;

  void append(const uint8_t* data);
  // Appends frames from a pipe until its end, `max_frames` (0: no limit) or `max_bytes`.
  // True if the stream ended; false if it would not fit into `max_bytes`.
  bool read_from(int fd, size_t max_frames, size_t max_bytes, const Progress& progress);
  void clear() { frames_.clear(); }
  // XXH64 of each frame.
  std::vector<uint64_t> hashes() const;

  size_t count() const { return frames_.size(); }
  const uint8_t* frame(size_t index) const { return frames_.at(index).get(); }
  FrameSize size() const { return size_; }

 private:
  FrameSize size_;
  std::vector<std::unique_ptr<uint8_t[]>> frames_;
};

// Gives a clip's frames one after the other.
class FrameReader {
 public:
  virtual ~FrameReader() = default;
  // The next frame, valid until the next call; nullptr after the last one.
  virtual const uint8_t* next(const Heartbeat& heartbeat) = 0;
  virtual FrameSize size() const = 0;
  // XXH64 of each frame so far, where they were asked for; not while another thread reads.
  virtual std::vector<uint64_t> hashes() const { return {}; }
};

class StoreReader : public FrameReader {
 public:
  explicit StoreReader(std::shared_ptr<const FrameStore> store) : store_(std::move(store)) {}
  const uint8_t* next(const Heartbeat&) override {
    return position_ < store_->count() ? store_->frame(position_++) : nullptr;
  }
  FrameSize size() const override { return store_->size(); }

 private:
  std::shared_ptr<const FrameStore> store_;
  size_t position_ = 0;
};

// Reads from a pipe of raw frames; owns neither the pipe nor the process behind it.
class PipeReader : public FrameReader {
 public:
  PipeReader(int fd, FrameSize size, size_t max_frames, bool hashed)
      : fd_(fd), size_(size), left_(max_frames), hashed_(hashed), buffer_(size.bytes()) {}
  const uint8_t* next(const Heartbeat& heartbeat) override;
  FrameSize size() const override { return size_; }
  std::vector<uint64_t> hashes() const override { return hashes_; }

 private:
  int fd_;
  FrameSize size_;
  size_t left_;  // 0: no limit
  bool ended_ = false;
  bool hashed_;
  std::vector<uint8_t> buffer_;
  std::vector<uint64_t> hashes_;
};

}  // namespace muzero_rc
