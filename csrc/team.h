// Threads that work on the same rows, and the row ranges of several such teams.
#pragma once

#include <cstdint>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include <sched.h>

#include "simd.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// A barrier that spins: a step lasts microseconds, a sleeping thread wakes too late. After a
/// while it yields, so that more threads than processors still get on.
struct alignas(64) Barrier {
  int waiting = 0;
  alignas(64) int round = 0;

  void wait(int members) {
    if (members == 1) return;
    const int now = __atomic_load_n(&round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&waiting, 1, __ATOMIC_ACQ_REL) == members) {
      __atomic_store_n(&waiting, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&round, now + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&round, __ATOMIC_ACQUIRE) == now; ++spins) {
      if (spins > 4000) {
        sched_yield();
        continue;
      }
#if defined(__x86_64__) || defined(__i386__)
      _mm_pause();
#endif
    }
  }
};

/// One thread's place in its team. The members of a team share out columns; teams share out rows.
struct Member {
  int rank = 0, size = 1;
  Barrier* barrier = nullptr;

  void sync() const { barrier->wait(size); }
  int64_t begin(int64_t n) const { return rank * n / size; }
  int64_t end(int64_t n) const { return (rank + 1) * n / size; }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
