// One layer backwards: for each chunk of steps, the last one first, the recurrence step by step,
// then the gradients of weights and inputs as products over the whole chunk.
#pragma once

#include "activation.h"
#include "chunk_gradients.h"
#include "observed.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// One team member's backward.
template <class T>
class Backward {
 public:
  static constexpr int L = Shape<T>::L;
  using V = Vec<T>;

  Backward(const Layer& a, const Gradients& d, const Shape<T>& s, const BackwardWeights<T>& w,
           const Tiling& tiling, const Room& room, const Block& block, int team,
           const Member& member)
      : my_(a, d, s, tiling, room, block, team, member),
        w_(w),
        chunk_(my_, w, sums),
        observed_(my_, sums) {
    for (int64_t j = 0; j < a.skip_count; ++j)
      ring_ = a.skips[j] + 1 > ring_ ? a.skips[j] + 1 : ring_;
  }
  Backward(const Backward&) = delete;  // its parts know where it is

  Sums<T> sums = {};

  void take_shared(Arena& arena) {
    const int64_t state = my_.block.size() * my_.width;
    later_ = arena.take<T>(my_.block.size() * my_.stride);
    chunk_.take_shared(arena);
    flow_ = arena.take<T>(state);
    pass_ = my_.a.cell == Cell::kRnn ? nullptr : arena.take<T>(state);
    start_ = my_.d.hidden0 || my_.d.cell0 ? arena.take<T>(state) : nullptr;
    history_ = arena.take<T>(ring_ * state);
    zeros_ = arena.take<T>(my_.stride);
    sums.scale = my_.d.scale ? arena.take<T>(my_.width) : nullptr;
    sums.carries = my_.d.carries ? arena.take<T>(my_.width * my_.a.skip_count) : nullptr;
    sums.activation_bias = my_.d.activation_bias ? arena.take<T>(my_.width) : nullptr;
    observed_.take_shared(arena);
  }
  void take_own(Arena& arena) {
    const int64_t rows = my_.block.size();
    chunk_.take_own(arena);
    left_ = arena.take<const T*>(rows);
    out_ = arena.take<T*>(rows);
    skipped_ = arena.take<const T*>(rows * my_.a.skip_count);
    upstream_ = arena.take<const T*>(rows);
    kept_ = arena.take<const T*>(rows);
    before_ = arena.take<const T*>(rows);
  }

  void run() {
    clear();
    my_.member.sync();
    int64_t last = my_.s.steps;
    while (last > 0) {
      int64_t first = last;
      for (int64_t rows = 0; first > 0; --first) {
        rows += my_.block.alive(my_.time.rows(my_.time.at(first - 1)));
        if (rows > my_.chunk) break;
      }
      int64_t row = 0;
      for (int64_t p = last - 1; p >= first; --p) {
        const int64_t t = my_.time.at(p), alive = my_.block.alive(my_.time.rows(t));
        T* const delta = chunk_.deltas() + row * my_.stride;
        if (alive > 0) step(p, t, alive, delta, row);
        my_.member.sync();
        if (alive > 0) leave(p, alive, delta);
        next_ = delta;
        row += alive;
      }
      if (row > 0) end_chunk(first, last, row);
      last = first;
    }
    if (my_.member.rank == 0) observed_.finish();
    finish_start();
  }

 private:
  const Share<T> my_;
  const BackwardWeights<T>& w_;
  ChunkGradients<T> chunk_;
  Observed<T> observed_;
  int64_t ring_ = 0;         // steps that skips look back on, and their own
  T* later_ = nullptr;       // (rows of a step, stride): gates of the first step of the last chunk
  const T* next_ = nullptr;  // those of the step after
  T *flow_ = nullptr, *pass_ = nullptr, *start_ = nullptr, *history_ = nullptr, *zeros_ = nullptr;
  Later<T> later_rows_;  // of a step to come
  const T** left_ = nullptr;
  T** out_ = nullptr;
  const T** skipped_ = nullptr;
  // Rows of the step under way: dL/dy from outside, what the forward kept, h or c of before.
  const T **upstream_ = nullptr, **kept_ = nullptr, **before_ = nullptr;

  void clear() {
    if (my_.member.rank != 0) return;
    const int64_t state = my_.block.size() * my_.width;
    zero(flow_, state);  // beyond the last unit it stays so
    zero(pass_, state);
    zero(start_, state);
    zero(history_, ring_ * state);
    zero(zeros_, my_.stride);
    zero(sums.scale, my_.width);
    zero(sums.carries, my_.width * my_.a.skip_count);
    zero(sums.activation_bias, my_.width);
    chunk_.clear();
    observed_.clear();
  }

  /// Everything of one step, in own columns: delta of the state, then of the gates.
  void step(int64_t p, int64_t t, int64_t alive, T* delta, int64_t row) {
    const int64_t going_on = my_.block.alive(my_.time.rows(my_.time.at(p + 1)));
    const int64_t fed = going_on < alive ? going_on : alive;
    if (fed > 0) lay_rows<const T*>(left_, fed, next_ + my_.s.gates.state_at * L, my_.stride);
    lay_rows<const T*>(left_ + fed, alive - fed, zeros_, 0);
    lay_rows(out_, alive, flow_, my_.width);
    for (int64_t j = 0; j < my_.a.skip_count; ++j)
      for (int64_t r = 0; r < alive; ++r)
        skipped_[j * my_.block.size() + r] =
            state_before<T>(my_.a, my_.time, t, my_.block.first + r, my_.a.skips[j]);
    find_rows(t, alive);
    fetch_ahead(p, alive);
    my_.tiling.each(my_.member, [&](int64_t unit, int units) {
      if (fed > 0) times_state(unit, units, fed, left_, out_, Into::kStore);
      for (int64_t r = fed; r < alive; ++r)
        for (int64_t u = unit; u < unit + units; ++u) store(flow_ + r * my_.width + u * L, V{});
      switch (my_.a.cell) {
        case Cell::kRnn:
          with_activation<T>(my_.a, [&](auto phi) { rnn(phi, p, alive, fed, delta, unit, units); });
          break;
        case Cell::kGru:
          gru(p, alive, fed, delta, unit, units);
          break;
        case Cell::kLstm:
          lstm(p, t, alive, fed, delta, unit, units);
          break;
      }
    });
    observed_.measure_rows(flow_, t, alive, row);
  }

  /// Gradients of the gates times W_hh, in the columns of `units` vectors of units.
  void times_state(int64_t unit, int units, int64_t rows, const T* const* left, T* const* out,
                   Into into) {
    constexpr const T* kNoBias = nullptr;
    if (w_.state)
      return product(units, rows, left, my_.gate_walk(),
                     w_.state + unit * L * my_.s.units * my_.s.gates.count * L, out, unit * L, L,
                     into, kNoBias, &later_rows_);
    const T* const columns = static_cast<const T*>(my_.a.weight_hh) + unit * L;
    product(units, rows, left, Walk{1, my_.s.hidden, 0}, Right<T>{columns, my_.s.hidden, true}, out,
            unit * L, my_.s.lanes(unit + units - 1), into, kNoBias, &later_rows_);
  }

  void find_rows(int64_t t, int64_t alive) {
    const int64_t then = my_.time.earlier(t, 1), earlier = my_.time.rows(then);
    const T* const reserve = my_.s.kept ? static_cast<const T*>(my_.a.reserve) : nullptr;
    const int64_t b = my_.block.first;
    if (my_.d.output.data)
      lay_rows<const T*>(upstream_, alive, my_.first_row(my_.d.output, t), my_.d.output.row);
    else
      lay_rows<const T*>(upstream_, alive, nullptr, 0);
    if (reserve)
      lay_rows(kept_, alive, reserve + my_.time.index(t, b) * my_.s.kept, my_.s.kept);
    else
      lay_rows<const T*>(kept_, alive, my_.first_row(my_.a.output, t), my_.a.output.row);
    if (my_.a.cell == Cell::kGru) states_before(my_.a, my_.time, t, b, alive, before_);
    if (my_.a.cell == Cell::kLstm) {
      const int64_t there = my_.block.alive(earlier), n = there < alive ? there : alive;
      if (n > 0)
        lay_rows(before_, n, reserve + my_.time.index(then, b) * my_.s.kept + my_.s.kept_gates,
                 my_.s.kept);
      lay_rows(before_ + n, alive - n, static_cast<const T*>(my_.a.cell0) + (b + n) * my_.s.hidden,
               my_.s.hidden);
    }
  }

  /// Has the rows of a step to come fetched: time runs against the prefetcher, and they are many.
  void fetch_ahead(int64_t p, int64_t alive) {
    later_rows_.count = 0;
    const int64_t next = p - 2;  // an LSTM step also wants the cell state of the one before
    if (next < 0) return;
    const int64_t t = my_.time.at(next), n = my_.block.alive(my_.time.rows(t)), b = my_.block.first;
    const int64_t rows = n < alive ? n : alive;
    if (my_.d.state_norms)  // a store that has to wait for its line holds up all after it
      for (int64_t r = 0; r < rows; r += 8)
        __builtin_prefetch(my_.d.state_norms + my_.time.index(t, b) + r, 1);
    // Of dL/dy, of what the forward kept, and of h where a step wants that.
    const auto each = [&](auto&& visit) {
      if (my_.d.output.data) visit(my_.first_row(my_.d.output, t), my_.d.output.row, my_.s.hidden);
      if (my_.s.kept)
        visit(static_cast<const T*>(my_.a.reserve) + my_.time.index(t, b) * my_.s.kept, my_.s.kept,
              my_.s.kept);
      if (!my_.s.kept || my_.a.cell == Cell::kGru)
        visit(my_.first_row(my_.a.output, t), my_.a.output.row, my_.s.hidden);
    };
    each([&](const T* first, int64_t stride, int64_t width) {
      if (my_.member.size == 1 && stride == width) return later_rows_.want(first, rows * width);
      constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
      const int64_t from = my_.member.begin(width), to = my_.member.end(width);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = from; i < to; i += kLine) __builtin_prefetch(first + r * stride + i, 0, 2);
    });
  }

  /// Where the parts of dL/dh_t of one row are; found once a row, since the compiler has to take
  /// every store for one that may change what `this` points to.
  struct Row {
    T* flow;
    const T *pass, *upstream, *end;  // each may be null
  };
  GRADREACH_INLINE Row row_of(int64_t r, bool ends) const {
    const T* const end = ends ? static_cast<const T*>(my_.d.hidden_n) : nullptr;
    return {flow_ + r * my_.width, my_.a.cell == Cell::kGru ? pass_ + r * my_.width : nullptr,
            upstream_[r], end ? end + (my_.block.first + r) * my_.s.hidden : nullptr};
  }
  /// dL/dh_t of one vector of units: flow, output, the end, what skips bring.
  GRADREACH_INLINE V arriving(const Row& row, int64_t p, int64_t r, int64_t u, int lanes) const {
    V delta = load(row.flow + u * L);
    if (row.pass) delta += load(row.pass + u * L);
    if (row.upstream) delta += load_some(row.upstream + u * L, lanes);
    if (row.end) delta += load_some(row.end + u * L, lanes);
    for (int64_t j = 0; j < my_.a.skip_count; ++j) {
      const int64_t later = p + my_.a.skips[j];
      if (later < my_.s.steps && my_.block.first + r < my_.time.rows(my_.time.at(later)))
        delta += load(w_.carry[j] + u * L) * load(past(later, r) + u * L);
    }
    return delta;
  }
  T* past(int64_t p, int64_t r) const {
    return history_ + (p % ring_ * my_.block.size() + r) * my_.width;
  }

  /// What a state's gradient gives to the skips and their weights.
  GRADREACH_INLINE void pass_skips(V delta, int64_t p, int64_t r, int64_t u) {
    if (my_.a.skip_count == 0) return;
    const int lanes = my_.s.lanes(u);
    store(past(p, r) + u * L, delta);
    for (int64_t j = 0; j < my_.a.skip_count; ++j) {
      const T* const from = skipped_[j * my_.block.size() + r];
      if (!from) continue;
      if (sums.carries) {
        T* const sum = sums.carries + j * my_.width + u * L;
        store(sum, load(sum) + delta * load_some(from + u * L, lanes));
      }
      if (!start_ || from != start_of<T>(my_.a, my_.block.first + r)) continue;
      T* const start = start_ + r * my_.width + u * L;
      store(start, load(start) + load(w_.carry[j] + u * L) * delta);
    }
  }

  /// Rows of a step to which nothing but flow and upstream gradient arrives, as most: the first.
  int64_t plain_rows(int64_t fed) const {
    return my_.a.skip_count == 0 && my_.d.output.data ? fed : 0;
  }
  /// visit(dL/dh, vector of units, lanes) along such a row; leaves dL/dh where its flow was. On its
  /// own: the questions after what else there may be take as long as the answer.
  template <bool Passes, class F>
  GRADREACH_INLINE void walk_plainly(const Row& row, int64_t unit, int units, F&& visit) const {
    const Row from = row;
    const int64_t hidden = my_.s.hidden, end = (unit + units) * L;
    for (int64_t i = unit * L; i < end; i += L) {
      const int lanes = i + L <= hidden ? L : static_cast<int>(hidden - i);
      V d = load(from.flow + i) + load_some(from.upstream + i, lanes);
      if constexpr (Passes) d += load(from.pass + i);
      store(from.flow + i, d);
      visit(d, i / L, lanes);
    }
  }
  /// The same along any row.
  template <class F>
  GRADREACH_INLINE void walk(const Row& parts, int64_t p, int64_t r, int64_t unit, int units,
                             F&& visit) {
    for (int64_t u = unit; u < unit + units; ++u) {
      const int lanes = my_.s.lanes(u);
      const V d = arriving(parts, p, r, u, lanes);
      store(parts.flow + u * L, d);
      pass_skips(d, p, r, u);
      visit(d, u, lanes);
    }
  }

  template <class Phi>
  void rnn(const Phi& phi, int64_t p, int64_t alive, int64_t fed, T* delta, int64_t unit,
           int units) {
    const bool twice = my_.s.keeps_output;
    const bool whole = my_.s.kept != 0;  // vectors of the reserve are padded
    const T* const scale = w_.scale;
    T *const scale_sum = sums.scale, *const bias_sum = sums.activation_bias;
    const int64_t plain = scale || w_.activation_bias ? 0 : plain_rows(fed);
    for (int64_t r = 0; r < alive; ++r) {
      const T *const kept = kept_[r], *const output = twice ? kept + my_.s.kept_gates : nullptr;
      T* const out = delta + r * my_.stride;
      const Row parts = row_of(r, r >= fed);
      if (r < plain) {
        walk_plainly<false>(parts, unit, units, [&](V d, int64_t u, int lanes) {
          store(out + u * L, d * phi.slope(load_some(kept + u * L, lanes)));
        });
        continue;
      }
      walk(parts, p, r, unit, units, [&](V d, int64_t u, int lanes) {
        const V value = load_some(kept + u * L, whole ? L : lanes);
        if (scale) {
          if (scale_sum) add_to(scale_sum + u * L, d * (output ? load(output + u * L) : value));
          d *= load(scale + u * L);
        }
        d *= phi.slope(value);
        if (bias_sum)  // modReLU: sign(a) where the unit is on
          add_to(bias_sum + u * L, value > T(0) ? d : -d);
        store(out + u * L, d);
      });
    }
    observed_.slopes(kept_, alive, unit, units,
                     [=](const T* kept, int64_t u, int lanes) GRADREACH_INLINE_LAMBDA {
                       return phi.slope(load_some(kept + u * L, whole ? L : lanes));
                     });
  }

  void gru(int64_t p, int64_t alive, int64_t fed, T* delta, int64_t unit, int units) {
    const int64_t plain = plain_rows(fed);
    for (int64_t r = 0; r < alive; ++r) {
      const T *const kept = kept_[r], *const before = before_[r];
      T *const pass = pass_ + r * my_.width, *const row_out = delta + r * my_.stride;
      const Row parts = row_of(r, r >= fed);
      const auto visit = [&](V d, int64_t u, int lanes) {
        const T* const g = kept + u * 4 * L;
        const V n = load(g), reset = load(g + L), keep = load(g + 2 * L), q = load(g + 3 * L);
        const V h = load_some(before + u * L, lanes);
        const V dn = d * (T(1) - keep) * (T(1) - n * n);
        T* const out = row_out + u * 4 * L;
        store(out, dn);
        store(out + L, dn * q * reset * (T(1) - reset));
        store(out + 2 * L, d * (h - n) * keep * (T(1) - keep));
        store(out + 3 * L, dn * reset);
        store(pass + u * L, d * keep);
      };
      if (r < plain)
        walk_plainly<true>(parts, unit, units, visit);
      else
        walk(parts, p, r, unit, units, visit);
    }
    observed_.gated(kept_, alive, unit, units, 0);
  }

  void lstm(int64_t p, int64_t t, int64_t alive, int64_t fed, T* delta, int64_t unit, int units) {
    const int64_t plain = plain_rows(fed);
    const int64_t earlier = my_.time.rows(my_.time.earlier(t, 1));
    for (int64_t r = 0; r < alive; ++r) {
      const int64_t b = my_.block.first + r;
      const T *const kept = kept_[r], *const before_row = before_[r];
      const bool first = b >= earlier;
      const T* const end = r >= fed && my_.d.cell_n
                               ? static_cast<const T*>(my_.d.cell_n) + b * my_.s.hidden
                               : nullptr;
      T *const pass = pass_ + r * my_.width, *const row_out = delta + r * my_.stride;
      const T* const cells = kept + my_.s.kept_gates;
      const auto visit = [&](V d, int64_t u, int lanes) {
        T* const cell_flow = pass + u * L;
        V dc = load(cell_flow);
        if (end) dc += load_some(end + u * L, lanes);
        const T* const g = kept + u * 4 * L;
        const V in = load(g), forget = load(g + L), candidate = load(g + 2 * L);
        const V out = load(g + 3 * L), squashed = vtanh(load(cells + u * L));
        const V before = load_some(before_row + u * L, first ? lanes : L);
        dc += d * out * (T(1) - squashed * squashed);
        T* const place = row_out + u * 4 * L;
        store(place, dc * candidate * in * (T(1) - in));
        store(place + L, dc * before * forget * (T(1) - forget));
        store(place + 2 * L, dc * in * (T(1) - candidate * candidate));
        store(place + 3 * L, d * squashed * out * (T(1) - out));
        store(cell_flow, dc * forget);
      };
      const Row parts = row_of(r, r >= fed);
      if (r < plain)
        walk_plainly<false>(parts, unit, units, visit);
      else
        walk(parts, p, r, unit, units, visit);
    }
    observed_.gated(kept_, alive, unit, units, 2);
  }

  /// Rows whose first step this was: their gradient goes to the initial state.
  void leave(int64_t p, int64_t alive, T* delta) {
    const int64_t before = p == 0 ? 0 : my_.block.alive(my_.time.rows(my_.time.at(p - 1)));
    const int64_t begins = before < alive ? before : alive;
    if (begins == alive || !start_) return;
    for (int64_t r = begins; r < alive; ++r) {
      left_[r] = delta + r * my_.stride + my_.s.gates.state_at * L;
      out_[r] = start_ + r * my_.width;
    }
    my_.tiling.each(my_.member, [&](int64_t unit, int units) {
      times_state(unit, units, alive - begins, left_ + begins, out_ + begins, Into::kAdd);
      if (my_.a.cell == Cell::kGru)
        for (int64_t r = begins; r < alive; ++r)
          for (int64_t u = unit; u < unit + units; ++u)
            add_to(start_ + r * my_.width + u * L, load(pass_ + r * my_.width + u * L));
    });
  }

  void finish_start() {
    if (!start_) return;
    my_.tiling.each(my_.member, [&](int64_t unit, int units) {
      for (int64_t r = 0; r < my_.block.size(); ++r)
        for (int64_t u = unit; u < unit + units; ++u) {
          const int64_t at = (my_.block.first + r) * my_.s.hidden + u * L;
          if (my_.d.hidden0)
            store_some(static_cast<T*>(my_.d.hidden0) + at, load(start_ + r * my_.width + u * L),
                       my_.s.lanes(u));
          if (my_.d.cell0)
            store_some(static_cast<T*>(my_.d.cell0) + at, load(pass_ + r * my_.width + u * L),
                       my_.s.lanes(u));
        }
    });
  }

  void end_chunk(int64_t first, int64_t last, int64_t rows) {
    observed_.end_chunk(first, last, rows);
    chunk_.add(first, last, rows);
    // The chunk before this one begins with products of what its first step left.
    const int64_t left = first > 0 ? my_.block.alive(my_.time.rows(my_.time.at(first))) : 0;
    for (int64_t r = my_.member.begin(left); r < my_.member.end(left); ++r)
      std::memcpy(later_ + r * my_.stride, next_ + r * my_.stride,
                  static_cast<size_t>(my_.stride) * sizeof(T));
    next_ = later_;
    my_.member.sync();
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
