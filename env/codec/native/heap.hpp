// What the C library keeps of memory that was freed.
#pragma once

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

namespace muzero_rc {

// From here on freed memory goes back to the system, whatever was freed before.
//
// glibc raises both of its thresholds when a large block is freed, to the block's size and to
// twice that, up to 64 MiB. From then on each thread's heap keeps so much that is free, so that
// the statistics of a long film would set what all encoders after them keep. Setting a threshold
// holds both; these are the values that glibc starts with (`mallopt(3)`). Other C libraries have
// no such thresholds, and nothing is done there.
inline void hold_heap_thresholds() {
#ifdef __GLIBC__
  constexpr int kBytes = 128 * 1024;
  mallopt(M_MMAP_THRESHOLD, kBytes);
  mallopt(M_TRIM_THRESHOLD, kBytes);
#endif
}

}  // namespace muzero_rc
