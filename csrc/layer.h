// What forward and backward share: shapes, the walk through time, packed weights.
#pragma once

#include "gemm.h"
#include "table.h"
#include "team.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Where a cell keeps its gates: `group` vectors for each vector of units, one after the other.
///
/// RNN: a. LSTM: i f g o. GRU: n r z q, where q = W_hn h + b_hn: the input side uses the first
/// three, the state side the last three, each without a gap.
struct Gates {
  int group, count;                  // vectors kept, vectors of one side
  int input_at, state_at;            // first vector of a side
  int input_gate[4], state_gate[4];  // torch's number of each vector of a side
};

inline const Gates& gates_of(Cell cell) {
  static constexpr Gates kRnn{1, 1, 0, 0, {0}, {0}};
  static constexpr Gates kGru{4, 3, 0, 1, {2, 0, 1}, {0, 1, 2}};
  static constexpr Gates kLstm{4, 4, 0, 0, {0, 1, 2, 3}, {0, 1, 2, 3}};
  return cell == Cell::kRnn ? kRnn : cell == Cell::kGru ? kGru : kLstm;
}

/// Hands out pieces of one block; run without a block it only counts.
struct Arena {
  char* base = nullptr;
  size_t used = 0;

  template <class T>
  T* take(int64_t count) {
    T* const place = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;  // a line between pieces
    return place;
  }
};

/// The steps of a layer. A *position* counts in the direction of the recurrence, t in memory.
struct Time {
  int64_t steps, batch;
  const int64_t* offsets;
  bool reverse;

  explicit Time(const Layer& a)
      : steps(a.steps), batch(a.batch), offsets(a.offsets), reverse(a.reverse) {}
  int64_t at(int64_t position) const { return reverse ? steps - 1 - position : position; }
  int64_t earlier(int64_t t, int64_t lag) const { return reverse ? t + lag : t - lag; }
  int64_t rows(int64_t t) const {
    if (t < 0 || t >= steps) return 0;
    return offsets ? offsets[t + 1] - offsets[t] : batch;
  }
  int64_t index(int64_t t, int64_t b) const { return (offsets ? offsets[t] : t * batch) + b; }
  template <class T>
  T* row(const Rows& rows, int64_t t, int64_t b) const {
    T* const data = static_cast<T*>(rows.data);
    return data + (offsets ? (offsets[t] + b) * rows.row : t * rows.step + b * rows.row);
  }
};

/// The given state that sequence b starts from.
template <class T>
const T* start_of(const Layer& a, int64_t b) {
  return static_cast<const T*>(a.hidden0) + b * a.hidden_size;
}

/// The state that enters step t of sequence b over `lag` steps; null before the start.
template <class T>
const T* state_before(const Layer& a, const Time& time, int64_t t, int64_t b, int64_t lag) {
  const int64_t then = time.earlier(t, lag);
  if (b < time.rows(then)) return time.row<const T>(a.output, then, b);
  if (lag > 1 && b >= time.rows(time.earlier(t, lag - 1))) return nullptr;
  return start_of<T>(a, b);
}

/// Pointers to n rows at even distances. On its own, since what stands in a loop that stores
/// pointers is computed again for each.
template <class P>
void lay_rows(P* out, int64_t n, P first, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) out[i] = first + i * stride;
}

/// state_before() with a lag of 1, of `count` sequences from b on.
template <class T>
void states_before(const Layer& a, const Time& time, int64_t t, int64_t b, int64_t count,
                   const T** out) {
  const int64_t then = time.earlier(t, 1), left = time.rows(then) - b;
  const int64_t there = left < 0 ? 0 : left < count ? left : count;
  if (there > 0) lay_rows(out, there, time.row<const T>(a.output, then, b), a.output.row);
  lay_rows(out + there, count - there, start_of<T>(a, b + there), a.hidden_size);
}

/// A range of sequences.
struct Block {
  int64_t first, last;
  int64_t size() const { return last - first; }
  int64_t alive(int64_t rows) const {  // how many of them exist where `rows` sequences do
    const int64_t n = (rows < last ? rows : last) - first;
    return n > 0 ? n : 0;
  }
};

/// Columns, in vectors, cut into tiles: first evenly over the members of a team, then into wide
/// ones or vector by vector.
struct Tiling {
  int64_t vectors;
  int members;
  bool wide;

  int64_t begin_of(int member) const { return member * vectors / members; }
  /// visit(first vector, vectors) for the tiles of one member; of all where it works alone.
  template <class F>
  void each(const Member& member, F&& visit) const {
    const bool alone = member.size == 1;
    for (int m = alone ? 0 : member.rank; m < (alone ? members : member.rank + 1); ++m) {
      const int64_t from = begin_of(m), to = begin_of(m + 1);
      const Split split = wide ? wide_tiles(to - from) : Split(to - from, 1);
      for (int64_t i = 0; i < split.parts; ++i) {
        const int64_t first = from + split.begin(i);
        visit(first, static_cast<int>(from + split.begin(i + 1) - first));
      }
    }
  }
};

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// Row stride in elements: full vectors, and never a multiple of 1 KB, which would lay all rows
/// into the same few sets of the first cache.
template <class T>
int64_t padded_stride(int64_t elements) {
  const int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  const int64_t n = round_up(elements, line);
  return n * static_cast<int64_t>(sizeof(T)) % 1024 == 0 ? n + line : n;
}

/// Sizes that every part of a call needs.
template <class T>
struct Shape {
  static constexpr int L = kLanes<T>;
  int64_t steps, batch, inputs, hidden, units;  // units: vectors of hidden units
  Gates gates;
  int64_t kept_gates, kept;  // elements of a row of the reserve: of its gates, in all
  bool keeps_output;  // an RNN's activation as well as its derivative, for the scale's gradient

  explicit Shape(const Layer& a)
      : steps(a.steps),
        batch(a.batch),
        inputs(a.input_size),
        hidden(a.hidden_size),
        units((a.hidden_size + L - 1) / L),
        gates(gates_of(a.cell)) {
    kept_gates = units * L * gates.group;
    const bool plain = a.cell == Cell::kRnn && !keeps_activation(a);
    kept = plain ? 0 : kept_gates;
    if (a.cell == Cell::kLstm) kept += units * L;  // the cell state
    keeps_output = a.cell == Cell::kRnn && keeps_derivative(a) && a.scale;
    if (keeps_output) kept += kept_gates;
  }
  /// Whether the state alone does not tell the derivative: it is no function of the output, or
  /// the output is not the state.
  static bool keeps_activation(const Layer& a) {
    return keeps_derivative(a) || a.scale != nullptr || a.skip_count > 0;
  }
  static bool keeps_derivative(const Layer& a) {
    return a.activation == Activation::kGelu || a.activation == Activation::kSilu;
  }
  int lanes(int64_t unit) const {
    const int64_t left = hidden - unit * L;
    return static_cast<int>(left < L ? left : L);
  }
};

/// Packs W (torch's (G*H, K)) as right operand of x W^T: panels of one vector of units with all
/// gates of a side (RNN: of several vectors of units), k-major.
template <class T>
void pack_transposed(const Shape<T>& s, const int* torch_gate, const T* weight, int64_t depth,
                     int64_t first, int vectors, T* panel) {
  constexpr int L = kLanes<T>;
  const int per = s.gates.count;  // vectors of one unit vector
  for (int64_t u = first; u < first + vectors; ++u) {
    for (int g = 0; g < per; ++g) {
      const int lanes = s.lanes(u);
      const int slot = static_cast<int>(u - first) * per + g, width = vectors * per * L;
      const T* const rows = weight + (torch_gate[g] * s.hidden + u * L) * depth;
      T* out = panel + slot * L;
      for (int64_t k0 = 0; k0 < depth; k0 += 16) {  // a line of each row at a time
        const int64_t k1 = k0 + 16 < depth ? k0 + 16 : depth;
        for (int64_t k = k0; k < k1; ++k)
          for (int lane = 0; lane < L; ++lane)
            out[k * width + lane] = lane < lanes ? rows[lane * depth + k] : T(0);
      }
    }
  }
}

/// Packs W as right operand of (gradient of the gates) W: the depth runs over the gates as they
/// are kept, the columns over those of W.
template <class T>
void pack_plain(const Shape<T>& s, const int* torch_gate, const T* weight, int64_t columns,
                int64_t first, int vectors, T* panel) {
  constexpr int L = kLanes<T>;
  for (int64_t u = 0; u < s.units; ++u) {
    for (int g = 0; g < s.gates.count; ++g) {
      for (int lane = 0; lane < L; ++lane) {
        const bool exists = lane < s.lanes(u);
        const T* const row = weight + (torch_gate[g] * s.hidden + u * L + lane) * columns;
        for (int v = 0; v < vectors; ++v, panel += L) {
          const int64_t column = (first + v) * L;
          const int64_t n = columns - column < L ? columns - column : L;
          store(panel, exists ? load_some(row + column, static_cast<int>(n)) : Vec<T>{});
        }
      }
    }
  }
}

/// Lays each of the few columns of W out along the gates as they are kept.
template <class T>
void pack_columns(const Shape<T>& s, const int* torch_gate, const T* weight, int64_t columns,
                  T* out) {
  constexpr int L = Shape<T>::L;
  for (int64_t column = 0; column < columns; ++column)
    for (int64_t u = 0; u < s.units; ++u)
      for (int g = 0; g < s.gates.count; ++g, out += L)
        for (int lane = 0; lane < L; ++lane) {
          const int64_t row = torch_gate[g] * s.hidden + u * L + lane;
          out[lane] = lane < s.lanes(u) ? weight[row * columns + column] : T(0);
        }
}

/// Sums of a pair of biases in kept order; null counts as zero.
template <class T>
void pack_bias(const Shape<T>& s, const int* torch_gate, const T* one, const T* other, T* out) {
  constexpr int L = kLanes<T>;
  for (int64_t u = 0; u < s.units; ++u)
    for (int g = 0; g < s.gates.count; ++g, out += L)
      for (int lane = 0; lane < L; ++lane) {
        const int64_t i = torch_gate[g] * s.hidden + u * L + lane;
        const bool exists = lane < s.lanes(u);
        out[lane] = exists ? (one ? one[i] : T(0)) + (other ? other[i] : T(0)) : T(0);
      }
}

/// Copies a (H) vector into full vectors, `fill` beyond its end; returns null for null.
template <class T>
const T* padded(const Shape<T>& s, const void* source, int64_t row, T fill, Arena& arena,
                bool dry) {
  if (!source) return nullptr;
  T* const out = arena.take<T>(s.units * kLanes<T>);
  if (!dry)
    for (int64_t i = 0; i < s.units * kLanes<T>; ++i)
      out[i] = i < s.hidden ? static_cast<const T*>(source)[row * s.hidden + i] : fill;
  return out;
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
