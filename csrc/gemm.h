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

/// Memory that will be wanted later, in a few stretches. The tiles of a product ask for it as they
/// go, a line every k at most: asked for at once, so many lines keep the operands' own waiting.
template <class T>
struct Later {
  static constexpr int kMost = 3;
  struct Stretch {
    const T* at;
    int64_t left;  // elements
  };
  Stretch stretches[kMost];
  int count = 0;

  void want(const T* at, int64_t elements) { stretches[count++] = Stretch{at, elements}; }
};

/// What a tile does with its sums.
enum class Into { kStore, kAdd, kBias };

/// out[m][at..at+n) (=, +=, bias +) sum_k left[m][k] * panel[k][0..n), for a few rows m.
///
/// The last vector of a row holds `tail` columns that exist. By rows: left[m] points to a row whose
/// elements follow each other, and `ahead` to what will be wanted next, each k `ahead_stride`
/// further; where nobody else says what, the next panel. Else left[0] points to
/// element (k = 0, m = 0) of a matrix with `stride` elements from one k to the next, and rows m
/// follow each other in it. `ends`: the matrix ends with the last k (see Right).
///
/// Handed on by reference: a tile takes a fraction of a microsecond, and arguments on the stack
/// that are written in halves and read whole hold it up.
template <class T>
struct TileCall {
  const T* const* left;
  int64_t stride;
  Walk walk;
  const T* panel;
  int64_t panel_stride;
  bool ends;
  T* const* out;
  int64_t at;
  int tail;
  Into into;
  const T *bias, *ahead;
  int64_t ahead_stride;
  Later<T>* later;  // null: nothing but the next panel

  /// Lets the tile ask for the next part of what is wanted later, where there is one.
  void look_ahead() {
    if (!later || later->count == 0) return;
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    typename Later<T>::Stretch& s = later->stretches[later->count - 1];
    const int64_t depth = walk.depth(), tiles = (s.left + depth * kLine - 1) / (depth * kLine);
    ahead = s.at;
    ahead_stride = (s.left + tiles * depth - 1) / (tiles * depth);
    s.at += ahead_stride * depth;
    s.left -= ahead_stride * depth;
    if (s.left <= 0) --later->count;
  }
};

template <class T, int ROWS, int NV, bool ByRows, bool InPlace>
void tile(const TileCall<T>& c) {
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
  const T* __restrict panel = c.panel;
  T* const* const out = c.out;
  const int64_t at = c.at;
  const int tail = c.tail;
  const T* row[ROWS];
  if constexpr (ByRows) {
    GRADREACH_UNROLL
    for (int m = 0; m < ROWS; ++m) row[m] = c.left[m];
    // A constant where it can be: the rows leave few registers.
    const int64_t step = InPlace ? c.panel_stride : NV * L;
    const int64_t length = c.walk.length - (InPlace && c.ends ? 1 : 0);
    const T* ahead = c.ahead;
    const int64_t ahead_stride = c.ahead_stride;
    for (int64_t s = 0; s < c.walk.segments; ++s) {
      GRADREACH_TWICE
      for (int64_t k = 0; k < length; ++k) {
        V b[NV];
        GRADREACH_UNROLL
        for (int v = 0; v < NV; ++v) b[v] = load(panel + v * L);
        __builtin_prefetch(ahead);
        ahead += ahead_stride;
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
      for (int m = 0; m < ROWS; ++m) row[m] += c.walk.stride;
    }
    if (InPlace && c.ends) {
      GRADREACH_UNROLL
      for (int v = 0; v < NV; ++v) {
        const V b = load_some(panel + v * L, v + 1 < NV ? L : tail);
        GRADREACH_UNROLL
        for (int m = 0; m < ROWS; ++m) sum[m][v] += splat(row[m][length]) * b;
      }
    }
  } else {
    // The sums go to rows far apart, in the outer caches: ask for them while there is time, one
    // line every other k, since all at once would keep the operands' own lines waiting.
    const T* a_row = c.left[0];
    const int64_t stride = c.stride, depth = c.walk.length;
    const auto multiply = [&]() GRADREACH_INLINE_LAMBDA {
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
    };
    int64_t k = 0;
    for (int v = 0; v <= NV; ++v) {
      const int64_t place = at + (v < NV ? v * L : (NV - 1) * L + tail - 1);
      for (int m = 0; m < ROWS && k + 1 < depth; ++m) {
        __builtin_prefetch(out[m] + place, 1);
        GRADREACH_ROLLED
        for (const int64_t end = k + 2; k < end; ++k) multiply();
      }
    }
    for (; k < depth; ++k) multiply();
  }
  if (c.into == Into::kBias) {
    GRADREACH_UNROLL
    for (int v = 0; v < NV; ++v) {
      const V start = load(c.bias + v * L);
      GRADREACH_UNROLL
      for (int m = 0; m < ROWS; ++m) sum[m][v] += start;
    }
  }
  if (c.into == Into::kAdd) {
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
void tile_of(int rows, const TileCall<T>& call) {
  switch (rows) {
#define GRADREACH_ROWS(N)                                                   \
  case N:                                                                   \
    if constexpr (N <= kMaxRows[NV]) tile<T, N, NV, ByRows, InPlace>(call); \
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
void tile_of(int vectors, int rows, const TileCall<T>& call) {
  switch (vectors) {
    case 1:
      return tile_of<T, 1, ByRows, InPlace>(rows, call);
    case 2:
      return tile_of<T, 2, ByRows, InPlace>(rows, call);
    case 3:
      if constexpr ((ByRows && !InPlace) || kWidestTile >= 3)
        tile_of<T, 3, ByRows, InPlace>(rows, call);
      return;
    case 4:  // of gates by all; of else only where it is the widest
      if constexpr ((ByRows && !InPlace) || kWidestTile == 4)
        tile_of<T, 4, ByRows, InPlace>(rows, call);
  }
}

constexpr int64_t kMostShifted = 256;  // rows whose pointers product() can move along

/// Splits `count` things into the fewest even parts of at most `most`: part i is [first, second).
struct Split {
  int64_t count, parts;
  Split(int64_t n, int64_t most) : count(n), parts((n + most - 1) / most) {}
  int64_t begin(int64_t i) const { return i * count / parts; }
  int64_t largest() const { return parts == 0 ? 0 : (count + parts - 1) / parts; }
};

/// `vectors` next to each other as tiles for which any width will do. Wide ones spend least on
/// loads; four vectors have fewer rows than three, so that they are for where three leave one over.
inline Split wide_tiles(int64_t vectors) {
  return {vectors, vectors % kWideTile == 1 ? kWidestTile : kWideTile};
}

/// As product(), for a depth whose panel stays in the first cache from one row tile to the next.
/// `call` is that of the first tile, its `ahead` what will be wanted after them.
template <class T>
void block_product(int vectors, int64_t rows, bool in_place, TileCall<T> call) {
  if (rows == 0) return;
  const Split split(rows, kMaxRows[vectors]);
  const T* const next = call.ahead;
  const T* const* const left = call.left;
  T* const* const out = call.out;
  int64_t first = 0;
  for (int64_t i = 0; i < split.parts; ++i) {
    const int64_t end = split.begin(i + 1);
    call.left = left + first;
    call.out = out + first;
    // Each tile of rows asks for one vector per k of what comes next, so that large weights
    // stream from the outer caches while this panel is used.
    call.ahead = next + i % vectors * kLanes<T>;
    call.ahead_stride = in_place ? call.panel_stride : vectors * kLanes<T>;
    call.look_ahead();
    const int count = static_cast<int>(end - first);
    if (in_place)
      tile_of<T, true, true>(vectors, count, call);
    else
      tile_of<T, true, false>(vectors, count, call);
    first = end;
  }
}

/// All rows times one panel of `vectors` vectors; row m of the result goes to out[m] + at.
template <class T>
void product(int vectors, int64_t rows, const T* const* left, Walk walk, Right<T> right,
             T* const* out, int64_t at, int tail, Into into, const T* bias = nullptr,
             Later<T>* later = nullptr) {
  constexpr int64_t kPanelBytes = 30 * 1024;
  const int64_t width = vectors * kLanes<T>;
  const int64_t most = kPanelBytes / (width * static_cast<int64_t>(sizeof(T)));
  const bool ends = right.in_place && tail < kLanes<T>;
  // Packed panels follow each other in memory; in place the next one stands to the right.
  const T* const after = right.data + (right.in_place ? width : walk.depth() * width);
  TileCall<T> call{left, 0,    walk, right.data, right.stride, ends, out,
                   at,   tail, into, bias,       after,        0,    later};
  if (walk.depth() <= most || rows <= kMaxRows[vectors] || rows > kMostShifted)
    return block_product(vectors, rows, right.in_place, call);
  const T* shifted[kMostShifted];
  call.left = shifted;
  // Parts of whole segments, or of one long one.
  const bool whole = walk.segments > 1;
  const int64_t things = whole ? walk.segments : walk.length;
  const int64_t limit = whole ? most / walk.length : most;
  const Split parts(things, limit > 0 ? limit : 1);
  for (int64_t i = 0; i < parts.parts; ++i) {
    const int64_t first = parts.begin(i), count = parts.begin(i + 1) - first;
    call.walk = whole ? Walk{count, walk.length, walk.stride} : Walk{1, count, 0};
    const int64_t skipped = first * (whole ? walk.stride : 1);
    for (int64_t m = 0; m < rows; ++m) shifted[m] = left[m] + skipped;
    const bool last = i + 1 == parts.parts;
    const T* const below = call.panel + call.walk.depth() * right.stride;
    call.ahead = last ? after : below;
    call.ends = ends && last;
    block_product(vectors, rows, right.in_place, call);
    call.panel = below;
    call.into = Into::kAdd;
  }
}

/// As above, for a packed panel.
template <class T>
void product(int vectors, int64_t rows, const T* const* left, Walk walk, const T* panel,
             T* const* out, int64_t at, int tail, Into into, const T* bias = nullptr,
             Later<T>* later = nullptr) {
  product(vectors, rows, left, walk, Right<T>{panel, vectors * kLanes<T>}, out, at, tail, into,
          bias, later);
}

/// out[m] (=, +=) sum_k left[k * stride + m] * panel[k] for `count` columns m of left.
template <class T>
void outer_product(int vectors, int count, const T* left, int64_t stride, int64_t depth,
                   const T* panel, T* const* out, int64_t at, int tail, Into into) {
  const Split split(count, kMaxRows[vectors]);
  const T* place = nullptr;
  TileCall<T> call{&place,
                   stride,
                   Walk{1, depth, depth},
                   panel,
                   vectors * kLanes<T>,
                   false,
                   out,
                   at,
                   tail,
                   into,
                   nullptr,
                   nullptr,
                   0,
                   nullptr};
  for (int64_t i = 0; i < split.parts; ++i) {
    const int64_t first = split.begin(i);
    place = left + first;
    call.out = out + first;
    tile_of<T, false, false>(vectors, static_cast<int>(split.begin(i + 1) - first), call);
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
