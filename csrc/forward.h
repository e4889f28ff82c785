// One layer forwards: packed weights, then for each chunk of steps the input products at once and
// the recurrence step by step.
#pragma once

#include "activation.h"
#include "dots.h"
#include "room.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Weights as the forward wants them. One copy serves all threads.
template <class T>
struct ForwardWeights {
  T *input, *state;      // null: read in place
  T *bias, *state_bias;  // state_bias: GRU's b_hn, else null
  const T *scale, *activation_bias;
  const T* carry[kMostSkips];

  ForwardWeights(const Layer& a, const ForwardRoom& room, const Shape<T>& s, Arena& arena,
                 bool dry) {
    const int64_t columns = s.units * s.gates.count * Shape<T>::L;
    input = room.packs_input ? arena.take<T>(columns * s.inputs) : nullptr;
    state = room.packs_state ? arena.take<T>(columns * s.hidden) : nullptr;
    bias = arena.take<T>(columns);
    state_bias = a.cell == Cell::kGru ? arena.take<T>(columns) : nullptr;
    scale = padded(s, a.scale, 0, T(0), arena, dry);
    activation_bias = padded(s, a.activation_bias, 0, T(0), arena, dry);
    for (int64_t j = 0; j < a.skip_count; ++j) carry[j] = padded(s, a.carries, j, T(0), arena, dry);
  }

  void pack_biases(const Layer& a, const Shape<T>& s) {
    const T* const ih = static_cast<const T*>(a.bias_ih);
    const T* const hh = static_cast<const T*>(a.bias_hh);
    if (a.cell != Cell::kGru) return pack_bias(s, s.gates.input_gate, ih, hh, bias);
    pack_bias<T>(s, s.gates.state_gate, nullptr, hh, state_bias);  // r z n
    pack_bias<T>(s, s.gates.input_gate, ih, nullptr, bias);        // n r z
    constexpr int L = Shape<T>::L;
    for (int64_t u = 0; u < s.units; ++u)
      for (int i = 0; i < 2 * L; ++i) bias[u * 3 * L + L + i] += state_bias[u * 3 * L + i];
  }
};

/// One team member's forward.
template <class T>
class Forward {
 public:
  static constexpr int L = Shape<T>::L;
  using V = Vec<T>;

  Forward(const Layer& a, const Shape<T>& s, const ForwardWeights<T>& w, const Tiling& tiling,
          const ForwardRoom& room, const Block& block, const Member& member)
      : a_(a), s_(s), w_(w), tiling_(tiling), block_(block), member_(member), time_(a) {
    chunk_ = chunk_capacity(time_, block_, room.rows);
  }

  /// Takes the memory of one team: the gates of a chunk, and the running cell state.
  void take_shared(Arena& arena) {
    const bool kept = a_.reserve && a_.cell != Cell::kRnn;
    gates_ = kept ? nullptr : arena.take<T>(chunk_ * s_.kept_gates);
    cells_ = a_.cell == Cell::kLstm ? arena.take<T>(block_.size() * s_.units * L) : nullptr;
  }
  /// Takes the memory of one member: pointers to rows.
  void take_own(Arena& arena) {
    inputs_ = arena.take<const T*>(chunk_);
    rows_ = arena.take<T*>(chunk_);
    states_ = arena.take<const T*>(block_.size());
    skipped_ = arena.take<const T*>(block_.size() * a_.skip_count);
    outputs_ = arena.take<T*>(block_.size());
  }

  void run() {
    start_cells();
    for (int64_t first = 0, last = 0; first < s_.steps; first = last) {
      for (int64_t rows = 0; last < s_.steps; ++last) {
        rows += block_.alive(time_.rows(time_.at(last)));
        if (rows > chunk_) break;
      }
      project_inputs(first, last);
      T** rows = rows_;
      for (int64_t p = first; p < last; ++p) {
        const int64_t t = time_.at(p), alive = block_.alive(time_.rows(t));
        if (alive > 0) step(p, t, alive, rows);
        rows += alive;
        member_.sync();
      }
    }
  }

 private:
  const Layer& a_;
  const Shape<T>& s_;
  const ForwardWeights<T>& w_;
  const Tiling& tiling_;
  const Block block_;
  const Member member_;
  const Time time_;
  int64_t chunk_ = 1;  // rows
  T *gates_ = nullptr, *cells_ = nullptr;
  const T** inputs_ = nullptr;
  T** rows_ = nullptr;
  const T** states_ = nullptr;
  const T** skipped_ = nullptr;
  T** outputs_ = nullptr;  // rows of the step under way

  void start_cells() {
    if (!cells_) return;
    const T* const c0 = static_cast<const T*>(a_.cell0) + block_.first * s_.hidden;
    tiling_.each(member_, [&](int64_t first, int vectors) {
      for (int64_t r = 0; r < block_.size(); ++r)
        for (int64_t u = first; u < first + vectors; ++u)
          store(cells_ + (r * s_.units + u) * L,
                load_some(c0 + r * s_.hidden + u * L, s_.lanes(u)));
    });
  }

  /// W_ih x + b of a chunk of steps, in own columns; lays the row pointers of the chunk.
  void project_inputs(int64_t first, int64_t last) {
    int64_t count = 0;
    for (int64_t p = first; p < last; ++p) {
      const int64_t t = time_.at(p), alive = block_.alive(time_.rows(t));
      if (alive == 0) continue;
      lay_rows(inputs_ + count, alive, time_.row<const T>(a_.input, t, block_.first), a_.input.row);
      if (gates_)
        lay_rows(rows_ + count, alive, gates_ + count * s_.kept_gates, s_.kept_gates);
      else
        lay_rows(rows_ + count, alive,
                 static_cast<T*>(a_.reserve) + time_.index(t, block_.first) * s_.kept, s_.kept);
      count += alive;
    }
    const Gates& g = s_.gates;
    tiling_.each(member_, [&](int64_t unit, int units) {
      const int vectors = units * g.count;
      const int64_t column = unit * g.count * L;
      if (!w_.input) return dot_inputs(unit, units, count);
      product(vectors, count, inputs_, Walk{1, s_.inputs, 0}, w_.input + column * s_.inputs, rows_,
              (unit * g.group + g.input_at) * L, L, Into::kBias, w_.bias + column);
      if (w_.state_bias) {  // GRU: q starts from b_hn
        const V start = load(w_.state_bias + column + 2 * L);
        for (int64_t i = 0; i < count; ++i) store(rows_[i] + (unit * 4 + 3) * L, start);
      }
    });
  }

  int64_t columns_of(int64_t unit, int units) const {
    return (units - 1) * L + s_.lanes(unit + units - 1);
  }
  /// The same of an RNN whose W_ih is read in place.
  void dot_inputs(int64_t unit, int units, int64_t count) {
    const int64_t columns = columns_of(unit, units), last = (unit + units - 1) * L;
    if (columns < units * L)  // beyond the last unit there is to be a number
      for (int64_t i = 0; i < count; ++i) store(rows_[i] + last, V{});
    dot_product(columns, count, inputs_, s_.inputs,
                static_cast<const T*>(a_.weight_ih) + unit * L * s_.inputs, rows_, unit * L,
                Into::kBias, w_.bias + unit * L);
  }

  void step(int64_t p, int64_t t, int64_t alive, T* const* rows) {
    states_before(a_, time_, t, block_.first, alive, states_);
    lay_rows(outputs_, alive, time_.row<T>(a_.output, t, block_.first), a_.output.row);
    for (int64_t j = 0; j < a_.skip_count; ++j)
      for (int64_t r = 0; r < alive; ++r)
        skipped_[j * block_.size() + r] =
            state_before<T>(a_, time_, t, block_.first + r, a_.skips[j]);
    const int64_t going_on = block_.alive(time_.rows(time_.at(p + 1)));
    const Gates& g = s_.gates;
    tiling_.each(member_, [&](int64_t unit, int units) {
      if (w_.state)
        product(units * g.count, alive, states_, Walk{1, s_.hidden, 0},
                w_.state + unit * g.count * L * s_.hidden, rows, (unit * g.group + g.state_at) * L,
                L, Into::kAdd);
      else
        dot_product(columns_of(unit, units), alive, states_, s_.hidden,
                    static_cast<const T*>(a_.weight_hh) + unit * L * s_.hidden, rows, unit * L,
                    Into::kAdd);
      switch (a_.cell) {
        case Cell::kRnn:
          with_activation<T>(a_,
                             [&](auto phi) { rnn(phi, t, alive, going_on, rows, unit, units); });
          break;
        case Cell::kGru:
          gru(alive, going_on, rows, unit);
          break;
        case Cell::kLstm:
          lstm(alive, going_on, rows, unit);
          break;
      }
    });
  }

  template <class Phi>
  void rnn(const Phi& phi, int64_t t, int64_t alive, int64_t going_on, T* const* rows, int64_t unit,
           int units) {
    T* const kept = s_.kept ? static_cast<T*>(a_.reserve) : nullptr;
    const bool twice = s_.keeps_output;
    const bool plain = !kept && !w_.scale && a_.skip_count == 0;
    for (int64_t r = 0; r < alive; ++r) {
      if (plain && r < going_on) {
        plain_row(phi, rows[r], outputs_[r], unit, units);
        continue;
      }
      const int64_t b = block_.first + r;
      T* const keep = kept ? kept + time_.index(t, b) * s_.kept : nullptr;
      for (int64_t u = unit; u < unit + units; ++u) {
        const V before = load(rows[r] + u * L);
        const V bias = w_.activation_bias ? load(w_.activation_bias + u * L) : V{};
        const V value = phi.apply(before, bias);
        if (keep) store(keep + u * L, phi.keep(before, value));
        if (keep && twice) store(keep + s_.kept_gates + u * L, value);
        finish(value, r, u, r >= going_on);
      }
    }
  }

  /// A row of nothing but the activation. On its own: the questions after what else there may be
  /// take as long as the answer.
  template <class Phi>
  GRADREACH_INLINE void plain_row(const Phi& phi, const T* from, T* to, int64_t unit,
                                  int units) const {
    const int64_t hidden = s_.hidden, end = (unit + units) * L;
    const T* const bias = w_.activation_bias;
    const auto value = [&](int64_t i) GRADREACH_INLINE_LAMBDA {
      return phi.apply(load(from + i), bias ? load(bias + i) : V{});
    };
    int64_t i = unit * L;
    for (; i + L <= end && i + L <= hidden; i += L) store(to + i, value(i));
    if (i < end) store_part(to + i, value(i), static_cast<int>(hidden - i));
  }

  // Members are read before the loops: the compiler has to take every store for one that may
  // change them.

  void gru(int64_t alive, int64_t going_on, T* const* rows, int64_t u) {
    const T* const* const states = states_;
    T* const* const outputs = outputs_;
    const int lanes = s_.lanes(u);
    const int64_t plain = a_.skip_count == 0 ? going_on : 0;
    for (int64_t r = 0; r < alive; ++r) {
      T* const g = rows[r] + u * 4 * L;
      const V reset = vsigmoid<T>(load(g + L)), keep = vsigmoid<T>(load(g + 2 * L));
      const V candidate = vtanh(load(g) + reset * load(g + 3 * L));
      store(g, candidate);
      store(g + L, reset);
      store(g + 2 * L, keep);
      const V before = load_some(states[r] + u * L, lanes);
      const V value = candidate + keep * (before - candidate);
      if (r < plain)
        store_some(outputs[r] + u * L, value, lanes);
      else
        finish(value, r, u, r >= going_on);
    }
  }

  void lstm(int64_t alive, int64_t going_on, T* const* rows, int64_t u) {
    T* const cells = cells_ + u * L;
    T* const* const outputs = outputs_;
    const int64_t width = s_.units * L, cell_at = s_.kept_gates + u * L;
    const int lanes = s_.lanes(u);
    const bool keeps = !gates_;
    const int64_t plain = a_.skip_count == 0 ? going_on : 0;
    for (int64_t r = 0; r < alive; ++r) {
      T* const g = rows[r] + u * 4 * L;
      T* const running = cells + r * width;
      const V in = vsigmoid<T>(load(g)), forget = vsigmoid<T>(load(g + L));
      const V candidate = vtanh(load(g + 2 * L)), out = vsigmoid<T>(load(g + 3 * L));
      const V cell = forget * load(running) + in * candidate;
      store(running, cell);
      if (keeps) {
        store(g, in);
        store(g + L, forget);
        store(g + 2 * L, candidate);
        store(g + 3 * L, out);
        store(rows[r] + cell_at, cell);
      }
      const V value = out * vtanh(cell);
      if (r < plain) {
        store_some(outputs[r] + u * L, value, lanes);
        continue;
      }
      if (r >= going_on)
        store_some(static_cast<T*>(a_.cell_n) + (block_.first + r) * s_.hidden + u * L, cell,
                   lanes);
      finish(value, r, u, r >= going_on);
    }
  }

  /// Scale and skip connections; writes the state, also as the last one where it is.
  GRADREACH_INLINE void finish(V value, int64_t r, int64_t u, bool last) {
    const int lanes = s_.lanes(u);
    if (w_.scale) value *= load(w_.scale + u * L);
    for (int64_t j = 0; j < a_.skip_count; ++j) {
      const T* const from = skipped_[j * block_.size() + r];
      if (from) value += load(w_.carry[j] + u * L) * load_some(from + u * L, lanes);
    }
    store_some(outputs_[r] + u * L, value, lanes);
    if (last)
      store_some(static_cast<T*>(a_.hidden_n) + (block_.first + r) * s_.hidden + u * L, value,
                 lanes);
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
