// Elementary functions on vectors, within a few units in the last place.
//
// Coefficients: S. L. Moshier, Cephes Math Library (expf, tanhf, erff, erfcf, exp, tanh). Checked
// against the C library in tests/kernels/test_native_math.py.
#pragma once

#include <cmath>

#include "simd.h"

namespace gradreach {
namespace GRADREACH_ISA {

template <class T>
GRADREACH_INLINE Vec<T> select(Mask<T> mask, Vec<T> yes, Vec<T> no) {
  return mask ? yes : no;
}

template <class T>
GRADREACH_INLINE Vec<T> vabs(Vec<T> x) {
  using I = typename Simd<T>::Int;
  constexpr I kAllButSign = static_cast<I>(~(static_cast<uint64_t>(1) << (8 * sizeof(T) - 1)));
  return (Vec<T>)((Mask<T>)x & (kAllButSign - Mask<T>{}));
}

/// |x| with the sign of s; NaN of x stays.
template <class T>
GRADREACH_INLINE Vec<T> with_sign(Vec<T> x, Vec<T> s) {
  using I = typename Simd<T>::Int;
  constexpr I kSign = static_cast<I>(static_cast<uint64_t>(1) << (8 * sizeof(T) - 1));
  return (Vec<T>)(((Mask<T>)x & ~(kSign - Mask<T>{})) | ((Mask<T>)s & (kSign - Mask<T>{})));
}

/// e^x = (less_one + 1) · power, of which power is a whole power of 2 and |less_one| < 0.42.
struct ExpParts {
  Vec<float> less_one, power;
  /// For -87.3 <= x <= 89, and no number stays none.
  GRADREACH_INLINE explicit ExpParts(Vec<float> x) {
    using V = Vec<float>;
    const V magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const V shifted = x * 1.44269504088896341f + magic;
    const V n = shifted - magic;
    V r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    V p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    less_one = p * (r * r) + r;
    power = (V)(((Mask<float>)shifted << 23) + (127 << 23));  // magic itself is shifted out
  }
};

/// exp(x); below the normal numbers the smallest of them, infinite from half a bit below the
/// largest on: a sigmoid is then exactly 0, and 0 times an infinite state is no number, as in
/// torch.
GRADREACH_INLINE Vec<float> vexp(Vec<float> x) {
  const ExpParts e(larger<float>(-87.3f, smaller<float>(89.0f, x)));
  return (e.less_one + 1.0f) * e.power;
}

GRADREACH_INLINE Vec<double> vexp(Vec<double> x) {
  using V = Vec<double>;
  const V high = splat(710.0), low = splat(-708.0);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const V magic = splat(6755399441055744.0);  // 1.5 * 2^52
  const V shifted = x * 1.4426950408889634073599 + magic;
  const V n = shifted - magic;
  V r = x - n * 6.93145751953125e-1;
  r = r - n * 1.42860682030941723212e-6;
  const V rr = r * r;
  V p = splat(1.26177193074810590878e-4);
  p = p * rr + 3.02994407707441961300e-2;
  p = p * rr + 9.99999999999999999910e-1;
  p = p * r;
  V q = splat(3.00198505138664455042e-6);
  q = q * rr + 2.52448340349684104192e-3;
  q = q * rr + 2.27265548208155028766e-1;
  q = q * rr + 2.00000000000000000005e0;
  const V e = p / (q - p);
  const Mask<double> power = ((Mask<double>)shifted - (Mask<double>)magic + 1023) << 52;
  return (e + e + 1.0) * (V)power;
}

/// exp(x) - 1 with all its digits near 0, for x <= 88.
GRADREACH_INLINE Vec<float> vexpm1(Vec<float> x) {
  const ExpParts e(larger<float>(-87.3f, x));
  return e.power * e.less_one + (e.power - 1.0f);
}

/// 1 / x for normal x whose inverse is normal, too, and for infinity; a division of full vectors is
/// slow.
GRADREACH_INLINE Vec<double> vinverse(Vec<double> x) { return 1.0 / x; }
GRADREACH_INLINE Vec<float> vinverse(Vec<float> x) {
#if defined(__AVX512F__)
  const Vec<float> guess = (Vec<float>)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  const Vec<float> finer = guess * (2.0f - x * guess);    // one Newton step: 14 digits become 24
  const __m512i to_zero = _mm512_set1_epi32(8 << 4 * 5);  // of infinity, where the step has 0 * inf
  return (Vec<float>)_mm512_fixupimm_ps((__m512)finer, (__m512)x, to_zero, 0);
#else
  return 1.0f / x;
#endif
}

template <class T>
GRADREACH_INLINE Vec<T> vsigmoid(Vec<T> x) {
  return vinverse(T(1) + vexp(-x));
}

/// (e^2|x| - 1) / (e^2|x| + 1), which keeps its digits near 0 and is 1 where it rounds to 1.
GRADREACH_INLINE Vec<float> vtanh(Vec<float> x) {
  using V = Vec<float>;
  const V less_one = vexpm1(smaller<float>(20.0f, vabs<float>(x) * 2.0f)), above = less_one + 2.0f;
#if defined(__AVX512F__)
  const V inverse = (V)_mm512_maskz_rcp14_ps(0xffff, (__m512)above);
  const V near = less_one * inverse;
  const V quotient = near + inverse * (less_one - above * near);  // one Newton step
#else
  const V quotient = less_one / above;
#endif
  return with_sign<float>(quotient, x);
}

GRADREACH_INLINE Vec<double> vtanh(Vec<double> x) {
  using V = Vec<double>;
  const V size = vabs<double>(x), z = x * x;
  V p = splat(-9.64399179425052238628e-1);
  p = p * z + -9.92877231001918586564e1;
  p = p * z + -1.61468768441708447952e3;
  V q = z + 1.12811678491632931402e2;
  q = q * z + 2.23548839060100448583e3;
  q = q * z + 4.84406305325125486048e3;
  const V near = x + x * z * (p / q);
  const V far = 1.0 - 2.0 / (vexp(size + size) + 1.0);
  return select<double>(size < 0.625, near, with_sign<double>(far, x));
}

/// As above, for x <= 0: tanh(x/2) = (e^x - 1) / (e^x + 1) keeps the digits.
GRADREACH_INLINE Vec<double> vexpm1(Vec<double> x) {
  const Vec<double> e = vexp(x), half = vtanh(x * 0.5);
  return x > -1.0 ? half * (e + 1.0) : e - 1.0;
}

/// erf(x), given e^(-x²).
GRADREACH_INLINE Vec<float> verf(Vec<float> x, Vec<float> density) {
  using V = Vec<float>;
  const V size = vabs<float>(x), z = x * x;
  V p = splat(7.853861353153693e-5f);
  p = p * z + -8.010193625184903e-4f;
  p = p * z + 5.188327685732524e-3f;
  p = p * z + -2.685381193529856e-2f;
  p = p * z + 1.128358514861418e-1f;
  p = p * z + -3.761262582423300e-1f;
  p = p * z + 1.128379165726710e0f;
  const V near = x * p;
  const V inverse = vinverse(larger<float>(1.0f, size)), y = inverse * inverse;
  V a = splat(2.326819970068386e-2f);
  a = a * y + -1.387039388740657e-1f;
  a = a * y + 3.687424674597105e-1f;
  a = a * y + -5.824733027278666e-1f;
  a = a * y + 6.210004621745983e-1f;
  a = a * y + -4.944515323274145e-1f;
  a = a * y + 3.404879937665872e-1f;
  a = a * y + -2.741127028184656e-1f;
  a = a * y + 5.638259427386472e-1f;
  V b = splat(-1.047766399936249e1f);
  b = b * y + 1.297719955372516e1f;
  b = b * y + -7.495518717768503e0f;
  b = b * y + 2.921019019210786e0f;
  b = b * y + -1.015265279202700e0f;
  b = b * y + 4.218463358204948e-1f;
  b = b * y + -2.820767439740514e-1f;
  b = b * y + 5.641895067754075e-1f;
  const V tail = density * inverse * (size < 2.0f ? a : b);
  return select<float>(size < 1.0f, near, with_sign<float>(1.0f - tail, x));
}

GRADREACH_INLINE Vec<double> verf(Vec<double> x, Vec<double>) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::erf(x[i]);
  return x;
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
