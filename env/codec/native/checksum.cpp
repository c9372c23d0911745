#include "checksum.hpp"

#include <algorithm>

namespace muzero_rc {
namespace {

constexpr uint32_t kPrime = 65521;
constexpr size_t kLanes = 16;
// A lane's sum of its sums is at most 255 * n * (n + 1) / 2 after n blocks: this is far below.
constexpr size_t kMostBlocks = 4096;

}  // namespace

// Each place of a block has sums of its own, so that compilers make vectors of them, and the
// inner loop has nothing but additions.
void Adler32::add_blocks(const uint8_t* data, size_t blocks) {
  uint32_t sums[kLanes] = {};
  uint32_t before[kLanes] = {};  // sums of a lane before each block, together
  const size_t size = blocks * kLanes;
  for (const uint8_t* end = data + size; data != end; data += kLanes) {
#pragma GCC unroll 1  // of a loop that it unrolls first, gcc at -O3 makes no vectors
    for (size_t lane = 0; lane < kLanes; ++lane) {
      before[lane] += sums[lane];
      sums[lane] += data[lane];
    }
  }
  uint64_t low = 0, high = static_cast<uint64_t>(low_) * size;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    low += sums[lane];
    high += static_cast<uint64_t>(before[lane]) * kLanes + sums[lane] * (kLanes - lane);
  }
  high_ = static_cast<uint32_t>((high_ + high) % kPrime);
  low_ = static_cast<uint32_t>((low_ + low) % kPrime);
}

void Adler32::add(const uint8_t* data, size_t size) {
  for (size_t left = size / kLanes; left > 0;) {
    const size_t blocks = std::min(left, kMostBlocks);
    add_blocks(data, blocks);
    data += blocks * kLanes;
    left -= blocks;
  }
  for (size_t i = 0; i < size % kLanes; ++i) {
    low_ = (low_ + data[i]) % kPrime;
    high_ = (high_ + low_) % kPrime;
  }
}

uint32_t checksum_of(const vpx_image_t& image) {
  Adler32 sum;
  const int bytes = image.fmt & VPX_IMG_FMT_HIGHBITDEPTH ? 2 : 1;
  for (const int plane : {VPX_PLANE_Y, VPX_PLANE_U, VPX_PLANE_V}) {
    const int across = plane == VPX_PLANE_Y ? 0 : image.x_chroma_shift;
    const int down = plane == VPX_PLANE_Y ? 0 : image.y_chroma_shift;
    const int width = (static_cast<int>(image.d_w) + across) >> across;
    const int height = (static_cast<int>(image.d_h) + down) >> down;
    const uint8_t* row = image.planes[plane];
    for (int y = 0; y < height; ++y, row += image.stride[plane])
      sum.add(row, static_cast<size_t>(width) * bytes);
  }
  return sum.value();
}

}  // namespace muzero_rc
