// The gradients that are products over a whole chunk of steps: of weights and of inputs.
#pragma once

#include "share.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Weights as the backward wants them. One copy serves all threads.
template <class T>
struct BackwardWeights {
  T *state, *input;  // null: read in place, or no gradient of the input is asked for
  const T *scale, *activation_bias;
  const T* carry[kMostSkips];

  BackwardWeights(const Layer& a, const Room& room, const Shape<T>& s, Arena& arena, bool dry) {
    constexpr int L = Shape<T>::L;
    const int64_t depth = s.units * s.gates.count * L;
    state = room.packs_state ? arena.take<T>(depth * s.units * L) : nullptr;
    const int64_t inputs = dotted(s.inputs) ? s.inputs : round_up(s.inputs, L);
    input = room.packs_input ? arena.take<T>(depth * inputs) : nullptr;
    scale = padded(s, a.scale, 0, T(0), arena, dry);
    activation_bias = padded(s, a.activation_bias, 0, T(0), arena, dry);
    for (int64_t j = 0; j < a.skip_count; ++j) carry[j] = padded(s, a.carries, j, T(0), arena, dry);
  }
};

/// One team member's part of them.
template <class T>
class ChunkGradients {
 public:
  static constexpr int L = Shape<T>::L;

  ChunkGradients(const Share<T>& share, const BackwardWeights<T>& weights, Sums<T>& sums)
      : my_(share), w_(weights), sums_(sums) {}

  void take_shared(Arena& arena) {
    const int64_t gates = my_.s.gates.count * my_.s.hidden;
    deltas_ = arena.take<T>(my_.chunk * my_.stride);
    narrow_ = my_.few_inputs ? arena.take<T>(my_.chunk * (my_.s.inputs + 1)) : nullptr;
    // The first team adds into the caller's own arrays.
    const auto copy = [&](void* callers, int64_t columns) {
      return my_.team == 0 ? static_cast<T*>(callers) : arena.take<T>(gates * columns);
    };
    sums_.weight_hh = my_.d.weight_hh ? copy(my_.d.weight_hh, my_.s.hidden) : nullptr;
    const bool wide = my_.d.weight_ih && !my_.few_inputs;
    sums_.weight_ih = wide ? copy(my_.d.weight_ih, my_.s.inputs) : nullptr;
    sums_.inputs = arena.take<T>((my_.inputs_summed() + 1) * my_.s.kept_gates);
  }
  void take_own(Arena& arena) {
    const int64_t rows = my_.chunk, depth = rows < kPanelRows ? rows : kPanelRows;
    const bool panels = my_.d.weight_hh || sums_.weight_ih;
    panel_ = panels ? arena.take<T>(depth * panel_vectors(my_.s) * L) : nullptr;
    left_ = arena.take<const T*>(rows);
    out_ = arena.take<T*>(rows);
  }

  void clear() { zero(sums_.inputs, (my_.inputs_summed() + 1) * my_.s.kept_gates); }

  /// Where the recurrence leaves the gradients of the gates, a row for each sequence and step.
  T* deltas() const { return deltas_; }

  /// Adds what the steps [first, last), whose `rows` rows are all there, give.
  void add(int64_t first, int64_t last, int64_t rows) {
    if (my_.d.pre_activation && my_.member.rank == 0) copy_pre_activation(first, last);
    if (my_.d.input.data) add_inputs(first, last, rows);
    if (my_.d.weight_hh) {
      my_.each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
        states_before(my_.a, my_.time, t, my_.block.first, alive, left_ + row);
      });
      add_weight(rows, my_.s.hidden, my_.s.gates.state_gate, my_.s.gates.state_at, sums_.weight_hh);
    }
    if (sums_.weight_ih || my_.inputs_summed())
      my_.each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
        lay_rows<const T*>(left_ + row, alive, my_.first_row(my_.a.input, t), my_.a.input.row);
      });
    if (sums_.weight_ih)
      add_weight(rows, my_.s.inputs, my_.s.gates.input_gate, my_.s.gates.input_at, sums_.weight_ih);
    if (my_.inputs_summed()) {
      for (int64_t k = my_.member.begin(rows); k < my_.member.end(rows); ++k)
        for (int64_t i = 0; i < my_.s.inputs; ++i) narrow_[k * my_.s.inputs + i] = left_[k][i];
      my_.member.sync();
    }
    if (my_.inputs_summed() || my_.d.bias_ih || my_.d.bias_hh) add_narrow(rows);
    begun_ = true;
  }

 private:
  using V = Vec<T>;

  const Share<T>& my_;
  const BackwardWeights<T>& w_;
  Sums<T>& sums_;
  bool begun_ = false;   // whether there is something in the sums of the weights
  T* deltas_ = nullptr;  // (rows of a chunk, stride)
  T *narrow_ = nullptr, *panel_ = nullptr;
  const T** left_ = nullptr;
  T** out_ = nullptr;

  /// Lays columns [from, to) x L of `rows` rows out k-major.
  void pack_rows(const T* const* rows, int64_t count, int64_t from, int64_t to, int64_t columns) {
    T* out = panel_;
    for (int64_t k = 0; k < count; ++k)
      for (int64_t v = from; v < to; ++v, out += L) {
        const int64_t n = columns - v * L;
        store(out, load_some(rows[k] + v * L, static_cast<int>(n < L ? n : L)));
      }
  }

  /// weight (+)= delta^T left_, in own rows of the weight. Each member packs all of left_ for
  /// itself, a panel at a time: that is little beside its products, and stays in its cache.
  void add_weight(int64_t rows, int64_t columns, const int* torch_gate, int at, T* weight) {
    const Split tiles = wide_tiles((columns + L - 1) / L), depths(rows, kPanelRows);
    for (int64_t i = 0; i < tiles.parts; ++i) {
      const int64_t from = tiles.begin(i), to = tiles.begin(i + 1);
      const int64_t tail = columns - (to - 1) * L;
      for (int64_t part = 0; part < depths.parts; ++part) {
        const int64_t first = depths.begin(part), depth = depths.begin(part + 1) - first;
        const Into into = begun_ || part > 0 ? Into::kAdd : Into::kStore;
        pack_rows(left_ + first, depth, from, to, columns);
        for (int64_t u = my_.member.begin(my_.s.units); u < my_.member.end(my_.s.units); ++u)
          for (int g = 0; g < my_.s.gates.count; ++g) {
            T* out[L < 8 ? 8 : L];  // a tile has at most eight rows
            for (int lane = 0; lane < my_.s.lanes(u); ++lane)
              out[lane] = weight + (torch_gate[g] * my_.s.hidden + u * L + lane) * columns;
            outer_product(static_cast<int>(to - from), my_.s.lanes(u),
                          deltas_ + first * my_.stride + (u * my_.s.gates.group + at + g) * L,
                          my_.stride, depth, panel_, out, from * L,
                          static_cast<int>(tail < L ? tail : L), into);
          }
      }
    }
  }

  /// Sums over the rows of (1, x) times delta, in own columns: biases, and W_ih of few inputs.
  void add_narrow(int64_t rows) {
    constexpr int kSide = 4;  // sums side by side, so that they do not wait for each other
    const int64_t kept = my_.s.units * my_.s.gates.group, inputs = my_.inputs_summed();
    for (int64_t v = my_.member.begin(kept); v < my_.member.end(kept); ++v) {
      const T* const column = deltas_ + v * L;
      for (int64_t first = 0; first < inputs; first += kSide) {
        V sum[kSide] = {};
        const int64_t n = inputs - first < kSide ? inputs - first : kSide;
        for (int64_t k = 0; k < rows; ++k) {
          const V delta = load(column + k * my_.stride);
          const T* const x = narrow_ + k * my_.s.inputs + first;
          for (int i = 0; i < kSide; ++i) sum[i] += splat(i < n ? x[i] : T(0)) * delta;
        }
        for (int64_t i = 0; i < n; ++i)
          add_to(sums_.inputs + (first + i) * my_.s.kept_gates + v * L, sum[i]);
      }
      V sum[kSide] = {};
      int64_t k = 0;
      for (; k + kSide <= rows; k += kSide)
        for (int i = 0; i < kSide; ++i) sum[i] += load(column + (k + i) * my_.stride);
      for (; k < rows; ++k) sum[0] += load(column + k * my_.stride);
      add_to(sums_.inputs + inputs * my_.s.kept_gates + v * L,
             (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }

  /// dL/dx of own rows of a chunk.
  void add_inputs(int64_t first, int64_t last, int64_t rows) {
    const T* const delta = deltas_ + my_.s.gates.input_at * L;
    my_.each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      lay_rows(out_ + row, alive, my_.first_row(my_.d.input, t), my_.d.input.row);
    });
    const int64_t from = my_.member.begin(rows), to = my_.member.end(rows);
    if (dotted(my_.s.inputs)) return dot_inputs(delta, from, to);
    lay_rows(left_, rows, delta, my_.stride);
    const int64_t depth = my_.s.units * my_.s.gates.count * L, vectors = (my_.s.inputs + L - 1) / L;
    const Split tiles = wide_tiles(vectors);
    for (int64_t i = 0; i < tiles.parts; ++i) {
      const int64_t v = tiles.begin(i), end = tiles.begin(i + 1);
      const int64_t tail = my_.s.inputs - (end - 1) * L;
      const int columns = static_cast<int>(tail < L ? tail : L), width = static_cast<int>(end - v);
      if (w_.input)
        product(width, to - from, left_ + from, my_.gate_walk(), w_.input + v * L * depth,
                out_ + from, v * L, columns, Into::kStore);
      else
        product(width, to - from, left_ + from, Walk{1, my_.s.hidden, 0},
                Right<T>{static_cast<const T*>(my_.a.weight_ih) + v * L, my_.s.inputs, true},
                out_ + from, v * L, columns, Into::kStore);
    }
  }

  /// The same of few inputs.
  void dot_inputs(const T* delta, int64_t from, int64_t to) const {
    const Walk walk = my_.padded_walk();
    const int64_t depth = walk.depth();
    for (int64_t row = from; row < to; ++row)
      for (int64_t i = 0; i < my_.s.inputs; ++i) {
        const T *place = delta + row * my_.stride, *column = w_.input + i * depth;
        V even = {}, odd = {};
        for (int64_t s = 0; s < walk.segments; ++s, place += walk.stride) {
          int64_t k = 0;
          for (; k + 2 * L <= walk.length; k += 2 * L, column += 2 * L) {
            even += load(place + k) * load(column);
            odd += load(place + k + L) * load(column + L);
          }
          for (; k < walk.length; k += L, column += L) even += load(place + k) * load(column);
        }
        out_[row][i] = lane_sum(even + odd);
      }
  }

  void copy_pre_activation(int64_t first, int64_t last) {
    const int64_t wide = my_.s.gates.count * my_.s.hidden;
    my_.each_row(first, last, [&](int64_t row, int64_t t, int64_t b) {
      T* const out = static_cast<T*>(my_.d.pre_activation) + my_.time.index(t, b) * wide;
      const T* const delta = deltas_ + row * my_.stride;
      for (int64_t u = 0; u < my_.s.units; ++u)
        for (int g = 0; g < my_.s.gates.count; ++g)
          store_some(out + my_.s.gates.input_gate[g] * my_.s.hidden + u * L,
                     load(delta + (u * my_.s.gates.group + my_.s.gates.input_at + g) * L),
                     my_.s.lanes(u));
    });
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
