// Numbers for what pictures look like, to tell whether a decoder shows the same ones.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vpx/vpx_image.h"

namespace muzero_rc {

// Adler-32 as ffmpeg's muxer framecrc has it: both sums start at 0, and not one of them at 1.
class Adler32 {
 public:
  void add(const uint8_t* data, size_t size);
  uint32_t value() const { return high_ << 16 | low_; }

 private:
  void add_blocks(const uint8_t* data, size_t blocks);

  uint32_t low_ = 0;   // of all bytes
  uint32_t high_ = 0;  // of `low_` after each byte
};

// Of the visible part of an image: Y, U and V, row after row, without what lies between rows.
uint32_t checksum_of(const vpx_image_t& image);

// XXH64 with seed 0 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md): as fast as memory.
uint64_t xxh64(const uint8_t* data, size_t size);

}  // namespace muzero_rc
