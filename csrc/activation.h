// The activations and their derivatives, one struct each.
//
// `kept` is what a step leaves for the backward: the output u of the activation, but for gelu and
// silu the derivative itself, which their input costs little while it is at hand, and the output
// does not tell. At a kink the derivative is torch's.
#pragma once

#include "table.h"
#include "vecmath.h"

namespace gradreach {
namespace GRADREACH_ISA {

template <class T>
struct FromOutput {
  GRADREACH_INLINE static Vec<T> keep(Vec<T>, Vec<T> u) { return u; }
};

template <class T>
struct Tanh : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return vtanh(a); }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const { return T(1) - u * u; }
};

template <class T>
struct Relu : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a <= T(0) ? Vec<T>{} : a; }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    return u <= T(0) ? Vec<T>{} : (u == u ? splat(T(1)) : u);  // NaN stays NaN
  }
};

template <class T>
struct LeakyRelu : FromOutput<T> {
  T negative;
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a > T(0) ? a : a * negative; }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    return u > T(0) ? splat(T(1)) : (u == u ? splat(negative) : u);
  }
};

template <class T>
struct Elu : FromOutput<T> {
  T alpha, scale;  // selu scales both halves
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const {
    const Vec<T> below = (alpha * scale) * vexpm1(smaller<T>(T(0), a));
    return a > T(0) ? a * scale : below;
  }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    return u > T(0) ? splat(scale) : u + alpha * scale;
  }
};

template <class T>
struct Softsign : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a / (T(1) + vabs<T>(a)); }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    const Vec<T> rest = T(1) - vabs<T>(u);
    return rest * rest;
  }
};

template <class T>
struct Hardtanh : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const {
    a = a > T(1) ? splat(T(1)) : a;
    return a < T(-1) ? splat(T(-1)) : a;
  }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    return vabs<T>(u) >= T(1) ? Vec<T>{} : (u == u ? splat(T(1)) : u);
  }
};

template <class T>
struct Identity : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a; }
  GRADREACH_INLINE Vec<T> slope(Vec<T>) const { return splat(T(1)); }
};

template <class T>
struct Sigmoid : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return vsigmoid<T>(a); }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const { return u * (T(1) - u); }
};

/// modReLU on real numbers: sign(a) relu(|a| + b), b learned (Arjovsky, Shah & Bengio 2016).
template <class T>
struct ModRelu : FromOutput<T> {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T> bias) const {
    const Vec<T> size = vabs<T>(a) + bias;
    const Vec<T> signed_size = with_sign<T>(size, a);
    return (size <= T(0)) | (a == T(0)) ? Vec<T>{} : signed_size;
  }
  GRADREACH_INLINE Vec<T> slope(Vec<T> u) const {
    return u == T(0) ? Vec<T>{} : (u == u ? splat(T(1)) : u);
  }
};

template <class T>
struct Gelu {
  GRADREACH_INLINE static Vec<T> density(Vec<T> a) { return vexp(a * a * T(-0.5)); }  // but 1/√2π
  GRADREACH_INLINE static Vec<T> cdf(Vec<T> a) {
    return T(0.5) * (T(1) + verf(a * T(0.70710678118654752440), density(a)));
  }
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a * cdf(a); }
  GRADREACH_INLINE static Vec<T> keep(Vec<T> a, Vec<T>) {
    return cdf(a) + a * (density(a) * T(0.39894228040143267794));
  }
  GRADREACH_INLINE Vec<T> slope(Vec<T> kept) const { return kept; }
};

template <class T>
struct Silu {
  GRADREACH_INLINE Vec<T> apply(Vec<T> a, Vec<T>) const { return a * vsigmoid<T>(a); }
  GRADREACH_INLINE static Vec<T> keep(Vec<T> a, Vec<T>) {
    const Vec<T> s = vsigmoid<T>(a);
    return s * (T(1) + a * (T(1) - s));
  }
  GRADREACH_INLINE Vec<T> slope(Vec<T> kept) const { return kept; }
};

/// Calls visit with the layer's activation.
template <class T, class F>
void with_activation(const Layer& a, F&& visit) {
  const T slope = static_cast<T>(a.slope);
  switch (a.activation) {
    case Activation::kTanh:
      return visit(Tanh<T>{});
    case Activation::kRelu:
      return visit(Relu<T>{});
    case Activation::kLeakyRelu:
      return visit(LeakyRelu<T>{{}, slope});
    case Activation::kElu:
      return visit(Elu<T>{{}, slope, T(1)});
    case Activation::kSelu:
      return visit(Elu<T>{{}, T(1.6732632423543772848), T(1.0507009873554804934)});
    case Activation::kSoftsign:
      return visit(Softsign<T>{});
    case Activation::kHardtanh:
      return visit(Hardtanh<T>{});
    case Activation::kIdentity:
      return visit(Identity<T>{});
    case Activation::kSigmoid:
      return visit(Sigmoid<T>{});
    case Activation::kGelu:
      return visit(Gelu<T>{});
    case Activation::kSilu:
      return visit(Silu<T>{});
    case Activation::kModRelu:
      return visit(ModRelu<T>{});
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
