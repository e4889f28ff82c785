// Vectors of one instruction set. Compiled once per set, inside that set's namespace.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define GRADREACH_INLINE inline __attribute__((always_inline))
#define GRADREACH_INLINE_LAMBDA __attribute__((always_inline))
// Before a loop of at most eight rounds, their number a constant; before one that is to stay one;
// before one of which two rounds are to be made one, where the time is worth the size.
#if defined(__clang__)
#define GRADREACH_UNROLL _Pragma("clang loop unroll(full)")
#define GRADREACH_ROLLED _Pragma("clang loop unroll(disable)")
#define GRADREACH_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define GRADREACH_UNROLL _Pragma("GCC unroll 8")
#define GRADREACH_ROLLED _Pragma("GCC unroll 1")
#define GRADREACH_TWICE _Pragma("GCC unroll 2")
#endif
#if !defined(__AVX2__)
#undef GRADREACH_TWICE
#define GRADREACH_TWICE GRADREACH_ROLLED
#endif

namespace gradreach {
namespace GRADREACH_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kMaxRows[5] = {0, 8, 8, 8, 6};  // rows of a tile of 1 … 4 vectors: 32 registers
constexpr int kWideTile = 3;                  // vectors of a tile where the width is free
constexpr int kWidestTile = 4;                // where that leaves none over
#else
#if defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kMaxRows[5] = {0, 8, 6, 4, 3};  // 16 registers
constexpr int kWideTile = 2, kWidestTile = 2;
#endif

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef int32_t M __attribute__((vector_size(kVectorBytes)));
  using Int = int32_t;
  static constexpr int kLanes = kVectorBytes / 4;
};

template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t M __attribute__((vector_size(kVectorBytes)));
  using Int = int64_t;
  static constexpr int kLanes = kVectorBytes / 8;
};

template <class T>
using Vec = typename Simd<T>::V;
template <class T>
using Mask = typename Simd<T>::M;
template <class T>
constexpr int kLanes = Simd<T>::kLanes;

template <class T>
GRADREACH_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
GRADREACH_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <class T>
GRADREACH_INLINE Vec<T> splat(T x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_set1_ps(x);
  else
    return (Vec<T>)_mm512_set1_pd(x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_set1_ps(x);
  else
    return (Vec<T>)_mm256_set1_pd(x);
#else
  Vec<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = x;
  return v;
#endif
}

/// Loads the first n lanes (0 < n <= kLanes), zeros beyond; reads nothing beyond them.
template <class T>
GRADREACH_INLINE Vec<T> load_part(const T* p, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
  else
    return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
#else
  Vec<T> v = {};
  std::memcpy(&v, p, sizeof(T) * static_cast<size_t>(n));
  return v;
#endif
}

template <class T>
GRADREACH_INLINE void store_part(T* p, Vec<T> v, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
  else
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
#else
  std::memcpy(p, &v, sizeof(T) * static_cast<size_t>(n));
#endif
}

template <class T>
GRADREACH_INLINE Vec<T> load_some(const T* p, int n) {
  return n == kLanes<T> ? load(p) : load_part(p, n);
}

template <class T>
GRADREACH_INLINE void store_some(T* p, Vec<T> v, int n) {
  if (n == kLanes<T>)
    store(p, v);
  else
    store_part(p, v, n);
}

/// The smaller (larger) one of a bound and x; of a NaN in x the NaN.
template <class T>
GRADREACH_INLINE Vec<T> smaller(T bound, Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_min_ps(0xffff, (__m512)splat(bound), (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_min_pd(0xff, (__m512d)splat(bound), (__m512d)x);
#else
  return splat(bound) < x ? splat(bound) : x;
#endif
}
template <class T>
GRADREACH_INLINE Vec<T> larger(T bound, Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_max_ps(0xffff, (__m512)splat(bound), (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_max_pd(0xff, (__m512d)splat(bound), (__m512d)x);
#else
  return splat(bound) > x ? splat(bound) : x;
#endif
}

/// The larger one of each lane, as integers. Of magnitudes as float bits it is the larger number,
/// and a NaN, whose bits lie above those of infinity, stays.
template <class T>
GRADREACH_INLINE Mask<T> larger_bits(Mask<T> a, Mask<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Mask<T>)_mm512_max_epi32((__m512i)a, (__m512i)b);
  else
    return (Mask<T>)_mm512_max_epi64((__m512i)a, (__m512i)b);
#else
  return a > b ? a : b;
#endif
}

/// `counts` and one more in each lane where x is below the bound.
template <class T>
GRADREACH_INLINE Mask<T> counted_below(Mask<T> counts, Vec<T> x, T bound) {
#if defined(__AVX512F__)
  const __m512i all = (__m512i)counts;
  if constexpr (sizeof(T) == 4) {
    const __mmask16 below = _mm512_cmp_ps_mask((__m512)x, (__m512)splat(bound), _CMP_LT_OQ);
    return (Mask<T>)_mm512_mask_sub_epi32(all, below, all, _mm512_set1_epi32(-1));
  } else {
    const __mmask8 below = _mm512_cmp_pd_mask((__m512d)x, (__m512d)splat(bound), _CMP_LT_OQ);
    return (Mask<T>)_mm512_mask_sub_epi64(all, below, all, _mm512_set1_epi64(-1));
  }
#else
  return counts - (Mask<T>)(x < bound);  // a lane is -1 where it is true
#endif
}

// The sum of the lanes, halves added to halves. In registers by name: taken apart as arrays, GCC
// keeps a vector in memory from where it was summed up.
#if defined(__AVX2__)
GRADREACH_INLINE double lane_sum_of(__m256d v) {
  const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return half[0] + half[1];
}
GRADREACH_INLINE float lane_sum_of(__m256 v) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 pairs = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return pairs[0] + pairs[1];
}
#endif
GRADREACH_INLINE double lane_sum(Vec<double> v) {
#if defined(__AVX512F__)
  return lane_sum_of(_mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 0),
                                   _mm512_maskz_extractf64x4_pd(0xf, (__m512d)v, 1)));
#elif defined(__AVX2__)
  return lane_sum_of((__m256d)v);
#else
  return v[0] + v[1];
#endif
}
GRADREACH_INLINE float lane_sum(Vec<float> v) {
#if defined(__AVX512F__)
  return lane_sum_of(_mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, (__m512)v, 0),
                                   _mm512_maskz_extractf32x8_ps(0xff, (__m512)v, 1)));
#elif defined(__AVX2__)
  return lane_sum_of((__m256)v);
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
