#include "frames.hpp"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <string>
#include <unistd.h>

#include "checksum.hpp"
#include "errors.hpp"

namespace muzero_rc {
namespace {
constexpr int kHeartbeatMs = 100;
}

vpx_image_t FrameSize::wrap(const uint8_t* data) const {
  vpx_image_t image;
  // libvpx reads the planes only, but its image type is not const.
  auto* luma = const_cast<uint8_t*>(data);
  const int bytes = sample_bytes();
  vpx_img_wrap(&image, bit_depth > 8 ? VPX_IMG_FMT_I42016 : VPX_IMG_FMT_I420, width, height, 1,
               luma);
  image.bit_depth = bit_depth;
  const size_t luma_bytes = static_cast<size_t>(width) * height * bytes;
  const size_t chroma_bytes = static_cast<size_t>(chroma_width()) * chroma_height() * bytes;
  image.planes[VPX_PLANE_Y] = luma;
  image.planes[VPX_PLANE_U] = luma + luma_bytes;
  image.planes[VPX_PLANE_V] = luma + luma_bytes + chroma_bytes;
  image.stride[VPX_PLANE_Y] = width * bytes;
  image.stride[VPX_PLANE_U] = image.stride[VPX_PLANE_V] = chroma_width() * bytes;
  return image;
}

bool read_frame(int fd, uint8_t* data, size_t size, const Heartbeat& heartbeat) {
  size_t have = 0;
  while (have < size) {
    heartbeat();
    pollfd waiting{fd, POLLIN, 0};
    const int ready = poll(&waiting, 1, kHeartbeatMs);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t got = read(fd, data + have, size - have);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      throw CodecError(std::string("reading raw frames failed: ") + std::strerror(errno), 0, "");
    }
    if (got == 0) {
      if (have == 0) return false;
      throw InputError("the last raw frame is cut short: " + std::to_string(have) + " of " +
                       std::to_string(size) + " bytes");
    }
    have += static_cast<size_t>(got);
  }
  return true;
}

void FrameStore::append(const uint8_t* data) {
  auto frame = std::make_unique_for_overwrite<uint8_t[]>(size_.bytes());
  std::memcpy(frame.get(), data, size_.bytes());
  frames_.push_back(std::move(frame));
}

bool FrameStore::read_from(int fd, size_t max_frames, size_t max_bytes,
                           const Progress& progress) {
  const size_t bytes = size_.bytes();
  const Heartbeat heartbeat = [&] { progress(static_cast<int64_t>(frames_.size())); };
  while (max_frames == 0 || frames_.size() < max_frames) {
    auto frame = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    if (!read_frame(fd, frame.get(), bytes, heartbeat)) return true;
    if (max_bytes != 0 && (frames_.size() + 1) * bytes > max_bytes) return false;
    frames_.push_back(std::move(frame));
  }
  return true;
}

std::vector<uint64_t> FrameStore::hashes() const {
  std::vector<uint64_t> found;
  found.reserve(frames_.size());
  for (const auto& frame : frames_) found.push_back(xxh64(frame.get(), size_.bytes()));
  return found;
}

const uint8_t* PipeReader::next(const Heartbeat& heartbeat) {
  if (ended_) return nullptr;
  if (!read_frame(fd_, buffer_.data(), buffer_.size(), heartbeat)) {
    ended_ = true;
    return nullptr;
  }
  if (left_ > 0 && --left_ == 0) ended_ = true;
  if (hashed_) hashes_.push_back(xxh64(buffer_.data(), buffer_.size()));
  return buffer_.data();
}

}  // namespace muzero_rc
