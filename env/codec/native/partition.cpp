#include "partition.hpp"

#include <utility>

#include "errors.hpp"

namespace muzero_rc {
namespace {

class BitWriter {
 public:
  void put(uint32_t bits, int count) {
    for (int i = 0; i < count; ++i) {
      if (used_ == 0) bytes_.push_back(0);
      bytes_.back() = static_cast<char>(bytes_.back() | (bits >> i & 1) << used_);
      used_ = (used_ + 1) % 8;
    }
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
  int used_ = 0;  // bits of the last byte
};

class BitReader {
 public:
  explicit BitReader(const std::string& bytes) : bytes_(bytes) {}
  uint32_t get(int count) {
    uint32_t bits = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (at_ / 8 >= bytes_.size()) throw InputError("a partition is shorter than its frame");
      bits |= (static_cast<uint8_t>(bytes_[at_ / 8]) >> at_ % 8 & 1u) << i;
    }
    return bits;
  }
  bool at_end() const { return (at_ + 7) / 8 == bytes_.size(); }

 private:
  const std::string& bytes_;
  size_t at_ = 0;
};

// The four 16x16 of a 32x32 lie in two rows of four.
int first_quarter(int half) { return 5 + half / 2 * 8 + half % 2 * 2; }
constexpr int kQuarters[] = {0, 1, 4, 5};

}  // namespace

std::string pack_partition(const uint32_t* split, size_t superblocks) {
  BitWriter out;
  for (size_t i = 0; i < superblocks; ++i) {
    out.put(split[i], 1);
    if (!(split[i] & 1)) continue;
    out.put(split[i] >> 1, 4);
    for (int half = 0; half < 4; ++half) {
      if (!(split[i] >> (1 + half) & 1)) continue;
      for (const int quarter : kQuarters) out.put(split[i] >> (first_quarter(half) + quarter), 1);
    }
  }
  return out.take();
}

std::vector<uint32_t> unpack_partition(const std::string& packed, size_t superblocks) {
  BitReader in(packed);
  std::vector<uint32_t> split(superblocks);
  for (uint32_t& word : split) {
    word = in.get(1);
    if (!word) continue;
    word |= in.get(4) << 1;
    for (int half = 0; half < 4; ++half) {
      if (!(word >> (1 + half) & 1)) continue;
      for (const int quarter : kQuarters) word |= in.get(1) << (first_quarter(half) + quarter);
    }
  }
  if (!in.at_end()) throw InputError("a partition is longer than its frame");
  return split;
}

}  // namespace muzero_rc
