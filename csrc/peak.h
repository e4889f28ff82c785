// What this processor can do at most: fused multiply-adds that never leave the registers.
#pragma once

#include <string>

namespace gradreach {

/// Billions of single-precision operations per second that `threads` threads reach together with
/// the vectors of `isa`, a multiply-add counting as two; each of them works for about `seconds`.
/// It is the denominator of the benchmarks. 0 where this processor lacks `isa`.
double peak_gflops(const std::string& isa, int threads, double seconds);

}  // namespace gradreach
