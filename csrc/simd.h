// Vectors of one instruction set. Compiled once per set, inside that set's namespace.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define GRADREACH_INLINE inline __attribute__((always_inline))

namespace gradreach {
namespace GRADREACH_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kMaxRows[5] = {0, 8, 8, 8, 6};  // rows of a tile of 1 … 4 vectors: 32 registers
constexpr int kWideTile = 3;                  // vectors of a tile where the width is free
#else
#if defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kMaxRows[5] = {0, 8, 6, 4, 3};  // 16 registers
constexpr int kWideTile = 2;
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

constexpr int kSquares = 8;  // sums side by side

/// Adds the squares to kSquares sums in float64, so that 1e-23 in float32 still counts.
template <class T>
GRADREACH_INLINE void add_squares(double* sums, Vec<T> v) {
#if defined(__AVX512F__)
  const __m512d before = _mm512_loadu_pd(sums);
  if constexpr (sizeof(T) == 4) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
    _mm512_storeu_pd(sums, _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, before)));
  } else {
    _mm512_storeu_pd(sums, _mm512_fmadd_pd((__m512d)v, (__m512d)v, before));
  }
#else
  for (int i = 0; i < kLanes<T>; ++i)
    sums[i % kSquares] += static_cast<double>(v[i]) * static_cast<double>(v[i]);
#endif
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
