// Vectors of float64 out of the user's numbers.
#pragma once

#include "vecmath.h"

namespace gradreach {
namespace GRADREACH_ISA {

using Wide = Vec<double>;
constexpr int kWide = kLanes<double>;

/// n numbers (0 < n <= kWide) as float64, zeros beyond them.
GRADREACH_INLINE Wide widen(const double* p, int n) { return load_some(p, n); }
GRADREACH_INLINE Wide widen(const float* p, int n) {
#if defined(__AVX512F__)
  const __mmask8 some = static_cast<__mmask8>((1u << n) - 1);
  return (Wide)_mm512_maskz_cvtps_pd(some, _mm256_maskz_loadu_ps(some, p));
#else
  Wide v = {};
  if (n == kWide) {
    for (int i = 0; i < kWide; ++i) v[i] = static_cast<double>(p[i]);
  } else {
    for (int i = 0; i < n; ++i) v[i] = static_cast<double>(p[i]);
  }
  return v;
#endif
}

GRADREACH_INLINE void narrow(double* p, Wide v, int n) { store_some(p, v, n); }
GRADREACH_INLINE void narrow(float* p, Wide v, int n) {
#if defined(__AVX512F__)
  const __mmask8 some = static_cast<__mmask8>((1u << n) - 1);
  _mm256_mask_storeu_ps(p, some, _mm512_maskz_cvtpd_ps(some, (__m512d)v));
#else
  for (int i = 0; i < n; ++i) p[i] = static_cast<float>(v[i]);
#endif
}

GRADREACH_INLINE double lane_max(Wide v) {
  double most = 0.0;
  for (int i = 0; i < kWide; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

/// visit(first, lanes) for a row of n numbers, vector by vector.
template <class F>
GRADREACH_INLINE void each_vector(int64_t from, int64_t to, F&& visit) {
  int64_t i = from;
  for (; i + kWide <= to; i += kWide) visit(i, kWide);
  if (i < to) visit(i, static_cast<int>(to - i));
}

/// Largest magnitude; NaN is passed over.
template <class U>
double peak_of(const U* p, int64_t n) {
  Wide most = {};
  each_vector(0, n, [&](int64_t i, int lanes) {
    const Wide v = vabs<double>(widen(p + i, lanes));
    most = v > most ? v : most;
  });
  return lane_max(most);
}

inline bool usable(double peak) { return peak > 0.0 && peak < __builtin_inf(); }

/// The 2-norm of n numbers, value(i, lanes) a vector of them: right from 1e-308 to 1e308.
template <class F>
double norm_of(int64_t n, F&& value) {
  Wide even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kWide <= n; i += 2 * kWide) {
    const Wide a = value(i, kWide), b = value(i + kWide, kWide);
    even += a * a;
    odd += b * b;
  }
  each_vector(i, n, [&](int64_t at, int lanes) {
    const Wide a = value(at, lanes);
    even += a * a;
  });
  const double squares = lane_sum(even + odd);
  if (squares > 1e-200 && squares < 1e200) return __builtin_sqrt(squares);
  if (squares != squares) return squares;
  Wide most = {};
  each_vector(0, n, [&](int64_t at, int lanes) {
    const Wide v = vabs<double>(value(at, lanes));
    most = v > most ? v : most;
  });
  const double peak = lane_max(most);
  if (!usable(peak)) return peak;
  Wide sum = {};
  each_vector(0, n, [&](int64_t at, int lanes) {
    const Wide v = value(at, lanes) / peak;
    sum += v * v;
  });
  return __builtin_sqrt(lane_sum(sum)) * peak;
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
