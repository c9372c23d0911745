#include "checksum.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace muzero_rc {
namespace {

constexpr uint32_t kPrime = 65521;
constexpr size_t kLanes = 16;
// A lane's sum of its sums is at most 255 * n * (n + 1) / 2 after n blocks: this is far below.
constexpr size_t kMostBlocks = 4096;

// XXH64's primes, of its specification.
constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F,
                   kPrime3 = 0x165667B19E3779F9, kPrime4 = 0x85EBCA77C2B2AE63,
                   kPrime5 = 0x27D4EB2F165667C5;
static_assert(std::endian::native == std::endian::little);

template <typename Word>
uint64_t read_word(const uint8_t* data) {
  Word word;
  std::memcpy(&word, data, sizeof word);
  return word;
}

uint64_t xxh64_round(uint64_t lane, uint64_t input) {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}

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

uint64_t xxh64(const uint8_t* data, size_t size) {
  const uint8_t* const end = data + size;
  uint64_t hash = kPrime5;
  if (size >= 32) {
    uint64_t lanes[4] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
    for (; end - data >= 32; data += 32)
      for (int i = 0; i < 4; ++i)
        lanes[i] = xxh64_round(lanes[i], read_word<uint64_t>(data + 8 * i));
    hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
           std::rotl(lanes[3], 18);
    for (const uint64_t lane : lanes) hash = (hash ^ xxh64_round(0, lane)) * kPrime1 + kPrime4;
  }
  hash += size;
  for (; end - data >= 8; data += 8)
    hash = std::rotl(hash ^ xxh64_round(0, read_word<uint64_t>(data)), 27) * kPrime1 + kPrime4;
  for (; end - data >= 4; data += 4)
    hash = std::rotl(hash ^ read_word<uint32_t>(data) * kPrime1, 23) * kPrime2 + kPrime3;
  for (; data != end; ++data) hash = std::rotl(hash ^ *data * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

}  // namespace muzero_rc
