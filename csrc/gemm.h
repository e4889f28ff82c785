// The one product everything is made of: a tile of rows times a packed panel of weights, its sums
// held in registers over the whole of K.
#pragma once

#include "simd.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// How the left operand of a product is walked: K = segments x length consecutive elements.
/// The GRU needs it: its gradients stand in groups of four vectors, of which a product uses three.
struct Walk {
  int64_t segments, length, stride;
  int64_t depth() const { return segments * length; }
};

/// The right operand of a product: for each k a row of as many numbers as the tile is wide,
/// `stride` elements after that of k - 1.
///
/// Either a packed panel, padded with zeros to whole vectors; or columns of a matrix in place.
/// Those may be cut off inside of the last vector: then the row of the next k is read beyond the
/// cut, into columns that nobody stores, and of the matrix's last row no more than exists.
template <class T>
struct Right {
  const T* data;
  int64_t stride;
  bool in_place = false;
};

/// What a tile does with its sums.
enum class Into { kStore, kAdd, kBias };

/// out[m][at..at+n) (=, +=, bias +) sum_k left[m][k] * panel[k][0..n), for ROWS rows m.
///
/// NV vectors a row; the last one holds `tail` columns that exist. ByRows: left[m] points to a
/// row whose elements follow each other, and `ahead` to what will be wanted next. Else left[0]
/// points to element (k = 0, m = 0) of a matrix with `stride` elements from one k to the next, and
/// rows m follow each other in it. InPlace: see Right; `ends`: the matrix ends with the last k.
template <class T, int ROWS, int NV, bool ByRows, bool InPlace>
void tile(const T* const* left, int64_t stride, Walk walk, const T* __restrict panel,
          int64_t panel_stride, bool ends, T* const* out, int64_t at, int tail, Into into,
          const T* bias, const T* ahead) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>;
  // Every loop over rows and vectors is unrolled, so that each sum is a register of its own from
  // its beginning to its end: one index that is not a constant lays them all into memory.
  V sum[ROWS][NV];
  GRADREACH_UNROLL
  for (int m = 0; m < ROWS; ++m) {
    GRADREACH_UNROLL
    for (int v = 0; v < NV; ++v) sum[m][v] = V{};
  }
  const T* row[ROWS];
  if constexpr (ByRows) {
    GRADREACH_UNROLL
    for (int m = 0; m < ROWS; ++m) row[m] = left[m];
    // A constant where it can be: the rows leave few registers.
    const int64_t step = InPlace ? panel_stride : NV * L;
    const int64_t length = walk.length - (InPlace && ends ? 1 : 0);
    for (int64_t s = 0; s < walk.segments; ++s) {
      for (int64_t k = 0; k < length; ++k) {
        V b[NV];
        GRADREACH_UNROLL
        for (int v = 0; v < NV; ++v) b[v] = load(panel + v * L);
        __builtin_prefetch(ahead);
        ahead += step;
        GRADREACH_UNROLL
        for (int m = 0; m < ROWS; ++m) {
          const V a = splat(row[m][k]);
          GRADREACH_UNROLL
          for (int v = 0; v < NV; ++v) sum[m][v] += a * b[v];
        }
        panel += step;
      }
      if constexpr (InPlace) break;
      GRADREACH_UNROLL
      for (int m = 0; m < ROWS; ++m) row[m] += walk.stride;
    }
    if (InPlace && ends) {
      GRADREACH_UNROLL
      for (int v = 0; v < NV; ++v) {
        const V b = load_some(panel + v * L, v + 1 < NV ? L : tail);
        GRADREACH_UNROLL
        for (int m = 0; m < ROWS; ++m) sum[m][v] += splat(row[m][length]) * b;
      }
    }
  } else {
    // The sums go to rows far apart, in the outer caches: ask for them while there is time.
    for (int m = 0; m < ROWS; ++m) {
      for (int v = 0; v < NV; ++v) __builtin_prefetch(out[m] + at + v * L, 1);
      __builtin_prefetch(out[m] + at + (NV - 1) * L + tail - 1, 1);
    }
    const T* a_row = left[0];
    for (int64_t k = 0; k < walk.length; ++k) {
      V b[NV];
      GRADREACH_UNROLL
      for (int v = 0; v < NV; ++v) b[v] = load(panel + v * L);
      GRADREACH_UNROLL
      for (int m = 0; m < ROWS; ++m) {
        const V a = splat(a_row[m]);
        GRADREACH_UNROLL
        for (int v = 0; v < NV; ++v) sum[m][v] += a * b[v];
      }
      a_row += stride;
      panel += NV * L;
    }
  }
  if (into == Into::kBias) {
    GRADREACH_UNROLL
    for (int v = 0; v < NV; ++v) {
      const V start = load(bias + v * L);
      GRADREACH_UNROLL
      for (int m = 0; m < ROWS; ++m) sum[m][v] += start;
    }
  }
  if (into == Into::kAdd) {
    GRADREACH_UNROLL
    for (int m = 0; m < ROWS; ++m) {
      const T* const place = out[m] + at;
      GRADREACH_UNROLL
      for (int v = 0; v + 1 < NV; ++v) sum[m][v] += load(place + v * L);
      sum[m][NV - 1] += load_some(place + (NV - 1) * L, tail);
    }
  }
  GRADREACH_UNROLL
  for (int m = 0; m < ROWS; ++m) {
    T* const place = out[m] + at;
    GRADREACH_UNROLL
    for (int v = 0; v + 1 < NV; ++v) store(place + v * L, sum[m][v]);
    store_some(place + (NV - 1) * L, sum[m][NV - 1], tail);
  }
}

template <class T, int NV, bool ByRows, bool InPlace>
void tile_of(int rows, const T* const* left, int64_t stride, Walk walk, Right<T> right, bool ends,
             T* const* out, int64_t at, int tail, Into into, const T* bias, const T* ahead) {
  switch (rows) {
#define GRADREACH_ROWS(N)                                                                          \
  case N:                                                                                          \
    if constexpr (N <= kMaxRows[NV])                                                               \
      tile<T, N, NV, ByRows, InPlace>(left, stride, walk, right.data, right.stride, ends, out, at, \
                                      tail, into, bias, ahead);                                    \
    return;
    GRADREACH_ROWS(1)
    GRADREACH_ROWS(2)
    GRADREACH_ROWS(3)
    GRADREACH_ROWS(4)
    GRADREACH_ROWS(5)
    GRADREACH_ROWS(6)
    GRADREACH_ROWS(7)
    GRADREACH_ROWS(8)
#undef GRADREACH_ROWS
  }
}

template <class T, bool ByRows, bool InPlace>
void tile_of(int vectors, int rows, const T* const* left, int64_t stride, Walk walk, Right<T> right,
             bool ends, T* const* out, int64_t at, int tail, Into into, const T* bias,
             const T* ahead) {
  switch (vectors) {
    case 1:
      return tile_of<T, 1, ByRows, InPlace>(rows, left, stride, walk, right, ends, out, at, tail,
                                            into, bias, ahead);
    case 2:
      return tile_of<T, 2, ByRows, InPlace>(rows, left, stride, walk, right, ends, out, at, tail,
                                            into, bias, ahead);
    case 3:
      return tile_of<T, 3, ByRows, InPlace>(rows, left, stride, walk, right, ends, out, at, tail,
                                            into, bias, ahead);
    case 4:
      if constexpr (!InPlace)  // nobody asks for it
        tile_of<T, 4, ByRows, false>(rows, left, stride, walk, right, ends, out, at, tail, into,
                                     bias, ahead);
  }
}

constexpr int64_t kMostShifted = 256;  // rows whose pointers product() can move along

/// Splits `count` things into the fewest even parts of at most `most`: part i is [first, second).
struct Split {
  int64_t count, parts;
  Split(int64_t n, int64_t most) : count(n), parts((n + most - 1) / most) {}
  int64_t begin(int64_t i) const { return i * count / parts; }
};

/// As product(), for a depth whose panel stays in the first cache from one row tile to the next.
/// `next` is what will be wanted after it.
template <class T>
void block_product(int vectors, int64_t rows, const T* const* left, Walk walk, Right<T> right,
                   const T* next, bool ends, T* const* out, int64_t at, int tail, Into into,
                   const T* bias) {
  if (rows == 0) return;
  const Split split(rows, kMaxRows[vectors]);
  for (int64_t i = 0; i < split.parts; ++i) {
    const int64_t first = split.begin(i);
    const int count = static_cast<int>(split.begin(i + 1) - first);
    // Each tile of rows asks for one vector per k of what comes next, so that large weights
    // stream from the outer caches while this panel is used.
    const auto run = right.in_place ? tile_of<T, true, true> : tile_of<T, true, false>;
    run(vectors, count, left + first, 0, walk, right, ends, out + first, at, tail, into, bias,
        next + i % vectors * kLanes<T>);
  }
}

/// All rows times one panel of `vectors` vectors; row m of the result goes to out[m] + at.
template <class T>
void product(int vectors, int64_t rows, const T* const* left, Walk walk, Right<T> right,
             T* const* out, int64_t at, int tail, Into into, const T* bias = nullptr) {
  constexpr int64_t kPanelBytes = 30 * 1024;
  const int64_t width = vectors * kLanes<T>;
  const int64_t most = kPanelBytes / (width * static_cast<int64_t>(sizeof(T)));
  const bool ends = right.in_place && tail < kLanes<T>;
  // Packed panels follow each other in memory; in place the next one stands to the right.
  const T* const after = right.data + (right.in_place ? width : walk.depth() * width);
  const T* shifted[kMostShifted];
  if (walk.depth() <= most || rows <= kMaxRows[vectors] || rows > kMostShifted)
    return block_product(vectors, rows, left, walk, right, after, ends, out, at, tail, into, bias);
  // Parts of whole segments, or of one long one.
  const bool whole = walk.segments > 1;
  const int64_t things = whole ? walk.segments : walk.length;
  const int64_t limit = whole ? most / walk.length : most;
  const Split parts(things, limit > 0 ? limit : 1);
  for (int64_t i = 0; i < parts.parts; ++i) {
    const int64_t first = parts.begin(i), count = parts.begin(i + 1) - first;
    const Walk part = whole ? Walk{count, walk.length, walk.stride} : Walk{1, count, 0};
    const int64_t skipped = first * (whole ? walk.stride : 1);
    for (int64_t m = 0; m < rows; ++m) shifted[m] = left[m] + skipped;
    const bool last = i + 1 == parts.parts;
    const T* const below = right.data + part.depth() * right.stride;
    block_product(vectors, rows, shifted, part, right, last ? after : below, ends && last, out, at,
                  tail, i == 0 ? into : Into::kAdd, bias);
    right.data = below;
  }
}

/// As above, for a packed panel.
template <class T>
void product(int vectors, int64_t rows, const T* const* left, Walk walk, const T* panel,
             T* const* out, int64_t at, int tail, Into into, const T* bias = nullptr) {
  product(vectors, rows, left, walk, Right<T>{panel, vectors * kLanes<T>}, out, at, tail, into,
          bias);
}

/// out[m] (=, +=) sum_k left[k * stride + m] * panel[k] for `count` columns m of left.
template <class T>
void outer_product(int vectors, int count, const T* left, int64_t stride, int64_t depth,
                   const T* panel, T* const* out, int64_t at, int tail, Into into) {
  const Split split(count, kMaxRows[vectors]);
  for (int64_t i = 0; i < split.parts; ++i) {
    const int64_t first = split.begin(i);
    const T* place = left + first;
    tile_of<T, false, false>(vectors, static_cast<int>(split.begin(i + 1) - first), &place, stride,
                             Walk{1, depth, depth}, Right<T>{panel, vectors * kLanes<T>}, false,
                             out + first, at, tail, into, nullptr, nullptr);
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
