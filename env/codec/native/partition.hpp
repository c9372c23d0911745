// How each superblock of a frame was split, packed: a bit whether it is, then one for each of
// its 32x32, then one for each 16x16 of those that are. A film's are kept in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muzero_rc {

// `split` is as in vpx_rc_encodeframe_result_t: bit 0, bits 1 to 4, bits 5 to 20.
std::string pack_partition(const uint32_t* split, size_t superblocks);

// Throws InputError if `packed` is not of as many superblocks.
std::vector<uint32_t> unpack_partition(const std::string& packed, size_t superblocks);

}  // namespace muzero_rc
