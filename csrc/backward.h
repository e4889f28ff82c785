// One layer backwards: for each chunk of steps, the last one first, the recurrence step by step,
// then the gradients of weights and inputs as products over the whole chunk.
#pragma once

#include "activation.h"
#include "room.h"
#include "wide.h"

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

/// Sums over a team's rows, added up over the teams at the end.
template <class T>
struct Sums {
  T *weight_ih, *weight_hh;  // torch's layout
  T* inputs;                 // (few inputs + 1, kept gates): W_ih of a narrow input, then biases
  T *scale, *carries, *activation_bias;
  double *slope_max, *slope_low, *gates;
};

/// One team member's backward.
template <class T>
class Backward {
 public:
  static constexpr int L = Shape<T>::L;
  static constexpr int64_t kFewInputs = 8;  // up to here W_ih's gradient is summed vector by vector
  using V = Vec<T>;

  Backward(const Layer& a, const Gradients& d, const Shape<T>& s, const BackwardWeights<T>& w,
           const Tiling& tiling, const Room& room, const Block& block, int team,
           const Member& member)
      : a_(a),
        d_(d),
        s_(s),
        w_(w),
        tiling_(tiling),
        block_(block),
        team_(team),
        member_(member),
        time_(a),
        few_inputs_(s.inputs <= kFewInputs) {
    stride_ = padded_stride<T>(s.kept_gates);
    width_ = s.units * L;
    for (int64_t j = 0; j < a.skip_count; ++j)
      ring_ = a.skips[j] + 1 > ring_ ? a.skips[j] + 1 : ring_;
    if (a.skip_count == 0) ring_ = 0;
    chunk_ = chunk_capacity(time_, block_, room.rows);
  }

  Sums<T> sums = {};

  void take_shared(Arena& arena) {
    const int64_t rows = chunk_, units = s_.units;
    const int64_t gates = s_.gates.count * s_.hidden;
    later_ = arena.take<T>(block_.size() * stride_);
    deltas_ = arena.take<T>(rows * stride_);
    flow_ = arena.take<T>(block_.size() * width_);
    pass_ = a_.cell == Cell::kRnn ? nullptr : arena.take<T>(block_.size() * width_);
    start_ = d_.hidden0 || d_.cell0 ? arena.take<T>(block_.size() * width_) : nullptr;
    history_ = arena.take<T>(ring_ * block_.size() * width_);
    zeros_ = arena.take<T>(stride_);
    const bool wide = d_.weight_ih && !few_inputs_;
    narrow_ = few_inputs_ ? arena.take<T>(rows * (s_.inputs + 1)) : nullptr;
    norms_ = d_.state_norms && tiling_.members > 1 ? arena.take<double>(rows * tiling_.members)
                                                   : nullptr;
    most_ = d_.slope_max ? arena.take<Int>(width_) : nullptr;
    few_ = d_.slope_low ? arena.take<Int>(width_) : nullptr;
    // The first team adds into the caller's own arrays.
    sums.weight_hh = !d_.weight_hh ? nullptr
                     : team_ == 0  ? static_cast<T*>(d_.weight_hh)
                                   : arena.take<T>(gates * s_.hidden);
    sums.weight_ih = !wide        ? nullptr
                     : team_ == 0 ? static_cast<T*>(d_.weight_ih)
                                  : arena.take<T>(gates * s_.inputs);
    sums.inputs = arena.take<T>((inputs_summed() + 1) * s_.kept_gates);
    sums.scale = d_.scale ? arena.take<T>(width_) : nullptr;
    sums.carries = d_.carries ? arena.take<T>(width_ * a_.skip_count) : nullptr;
    sums.activation_bias = d_.activation_bias ? arena.take<T>(width_) : nullptr;
    sums.slope_max = d_.slope_max ? arena.take<double>(width_) : nullptr;
    sums.slope_low = d_.slope_low ? arena.take<double>(width_) : nullptr;
    sums.gates = d_.gate_sums ? arena.take<double>(units * L * s_.gates.group) : nullptr;
  }
  void take_own(Arena& arena) {
    const int64_t rows = chunk_, depth = rows < kPanelRows ? rows : kPanelRows;
    panel_ =
        d_.weight_hh || sums.weight_ih ? arena.take<T>(depth * panel_vectors(s_) * L) : nullptr;
    left_ = arena.take<const T*>(rows);
    out_ = arena.take<T*>(rows);
    skipped_ = arena.take<const T*>(block_.size() * a_.skip_count);
    upstream_ = arena.take<const T*>(block_.size());
    kept_ = arena.take<const T*>(block_.size());
    before_ = arena.take<const T*>(block_.size());
  }

  void run() {
    clear();
    member_.sync();
    int64_t last = s_.steps;
    while (last > 0) {
      int64_t first = last;
      for (int64_t rows = 0; first > 0; --first) {
        rows += block_.alive(time_.rows(time_.at(first - 1)));
        if (rows > chunk_) break;
      }
      int64_t row = 0;
      for (int64_t p = last - 1; p >= first; --p) {
        const int64_t t = time_.at(p), alive = block_.alive(time_.rows(t));
        T* const delta = deltas_ + row * stride_;
        if (alive > 0) step(p, t, alive, delta, row);
        member_.sync();
        if (alive > 0) leave(p, alive, delta);
        next_ = delta;
        row += alive;
      }
      if (row > 0) accumulate(first, last, row);
      last = first;
    }
    if (member_.rank == 0) finish_observed();
    finish_start();
  }

 private:
  using Int = typename Simd<T>::Int;
  using M = Mask<T>;

  const Layer& a_;
  const Gradients& d_;
  const Shape<T>& s_;
  const BackwardWeights<T>& w_;
  const Tiling& tiling_;
  const Block block_;
  const int team_;
  const Member member_;
  const Time time_;
  const bool few_inputs_;
  int64_t stride_, width_, ring_ = 0, chunk_;  // chunk_: rows
  bool added_ = false;                         // whether the sums of the weights have begun
  T* deltas_ = nullptr;                        // (rows of a chunk, stride): gradients of the gates
  T* later_ = nullptr;       // (rows of a step, stride): those of the first step of the last chunk
  const T* next_ = nullptr;  // those of the step after
  T *flow_ = nullptr, *pass_ = nullptr, *start_ = nullptr, *history_ = nullptr, *zeros_ = nullptr;
  T *narrow_ = nullptr, *panel_ = nullptr;
  double* norms_ = nullptr;  // (members, rows of a chunk): sums of squares of own columns
  Int *most_ = nullptr, *few_ = nullptr;  // bits of slope_max; slope_low so far
  int64_t counted_ = 0;                   // rows that are counted in few_
  Later<T> later_rows_;                   // of a step to come
  const T** left_ = nullptr;
  T** out_ = nullptr;
  const T** skipped_ = nullptr;
  // Rows of the step under way: dL/dy from outside, what the forward kept, h or c of before.
  const T **upstream_ = nullptr, **kept_ = nullptr, **before_ = nullptr;

  int64_t inputs_summed() const { return few_inputs_ && d_.weight_ih ? s_.inputs : 0; }
  /// Over the gates of one side; without gaps between them one long segment is faster.
  Walk gate_walk() const {
    const int64_t side = s_.gates.count * L, whole = s_.gates.group * L;
    return side == whole ? Walk{1, s_.units * side, 0} : Walk{s_.units, side, whole};
  }
  template <class N>
  static void zero(N* place, int64_t n) {
    if (place) std::memset(place, 0, static_cast<size_t>(n) * sizeof(N));
  }

  void clear() {
    if (member_.rank != 0) return;
    zero(flow_, block_.size() * width_);  // beyond the last unit it stays so
    zero(pass_, block_.size() * width_);
    zero(start_, block_.size() * width_);
    zero(history_, ring_ * block_.size() * width_);
    zero(zeros_, stride_);
    zero(sums.inputs, (inputs_summed() + 1) * s_.kept_gates);
    zero(sums.scale, width_);
    zero(sums.carries, width_ * a_.skip_count);
    zero(sums.activation_bias, width_);
    zero(most_, width_);
    zero(few_, width_);
    zero(sums.slope_low, width_);
    zero(sums.gates, s_.kept_gates);
  }

  /// Everything of one step, in own columns: delta of the state, then of the gates.
  void step(int64_t p, int64_t t, int64_t alive, T* delta, int64_t row) {
    const int64_t going_on = block_.alive(time_.rows(time_.at(p + 1)));
    const int64_t fed = going_on < alive ? going_on : alive;
    if (fed > 0) lay_rows<const T*>(left_, fed, next_ + s_.gates.state_at * L, stride_);
    lay_rows<const T*>(left_ + fed, alive - fed, zeros_, 0);
    lay_rows(out_, alive, flow_, width_);
    for (int64_t j = 0; j < a_.skip_count; ++j)
      for (int64_t r = 0; r < alive; ++r)
        skipped_[j * block_.size() + r] =
            state_before<T>(a_, time_, t, block_.first + r, a_.skips[j]);
    find_rows(t, alive);
    fetch_ahead(p, alive);
    tiling_.each(member_, [&](int64_t unit, int units) {
      if (fed > 0) times_state(unit, units, fed, left_, out_, Into::kStore);
      for (int64_t r = fed; r < alive; ++r)
        for (int64_t u = unit; u < unit + units; ++u) store(flow_ + r * width_ + u * L, V{});
      switch (a_.cell) {
        case Cell::kRnn:
          with_activation<T>(a_, [&](auto phi) { rnn(phi, p, alive, fed, delta, unit, units); });
          break;
        case Cell::kGru:
          gru(p, alive, fed, delta, unit, units);
          break;
        case Cell::kLstm:
          lstm(p, t, alive, fed, delta, unit, units);
          break;
      }
    });
    if (d_.state_norms) measure_rows(t, alive, row);
  }

  /// Gradients of the gates times W_hh, in the columns of `units` vectors of units.
  void times_state(int64_t unit, int units, int64_t rows, const T* const* left, T* const* out,
                   Into into) {
    constexpr const T* kNoBias = nullptr;
    if (w_.state)
      return product(units, rows, left, gate_walk(),
                     w_.state + unit * L * s_.units * s_.gates.count * L, out, unit * L, L, into,
                     kNoBias, &later_rows_);
    const T* const columns = static_cast<const T*>(a_.weight_hh) + unit * L;
    product(units, rows, left, Walk{1, s_.hidden, 0}, Right<T>{columns, s_.hidden, true}, out,
            unit * L, s_.lanes(unit + units - 1), into, kNoBias, &later_rows_);
  }

  void find_rows(int64_t t, int64_t alive) {
    const int64_t then = time_.earlier(t, 1), earlier = time_.rows(then);
    const T* const reserve = s_.kept ? static_cast<const T*>(a_.reserve) : nullptr;
    const int64_t b = block_.first;
    if (d_.output.data)
      lay_rows(upstream_, alive, time_.row<const T>(d_.output, t, b), d_.output.row);
    else
      lay_rows<const T*>(upstream_, alive, nullptr, 0);
    if (reserve)
      lay_rows(kept_, alive, reserve + time_.index(t, b) * s_.kept, s_.kept);
    else
      lay_rows(kept_, alive, time_.row<const T>(a_.output, t, b), a_.output.row);
    if (a_.cell == Cell::kGru) states_before(a_, time_, t, b, alive, before_);
    if (a_.cell == Cell::kLstm) {
      const int64_t there = block_.alive(earlier), n = there < alive ? there : alive;
      if (n > 0)
        lay_rows(before_, n, reserve + time_.index(then, b) * s_.kept + s_.kept_gates, s_.kept);
      lay_rows(before_ + n, alive - n, static_cast<const T*>(a_.cell0) + (b + n) * s_.hidden,
               s_.hidden);
    }
  }

  /// Has the rows of a step to come fetched: time runs against the prefetcher, and they are many.
  void fetch_ahead(int64_t p, int64_t alive) {
    later_rows_.count = 0;
    const int64_t next = p - 2;  // an LSTM step also wants the cell state of the one before
    if (next < 0) return;
    const int64_t t = time_.at(next), n = block_.alive(time_.rows(t)), b = block_.first;
    const int64_t rows = n < alive ? n : alive;
    if (d_.state_norms)  // a store that has to wait for its line holds up all after it
      for (int64_t r = 0; r < rows; r += 8)
        __builtin_prefetch(d_.state_norms + time_.index(t, b) + r, 1);
    // Of dL/dy, of what the forward kept, and of h where a step wants that.
    const auto each = [&](auto&& visit) {
      if (d_.output.data) visit(time_.row<const T>(d_.output, t, b), d_.output.row, s_.hidden);
      if (s_.kept)
        visit(static_cast<const T*>(a_.reserve) + time_.index(t, b) * s_.kept, s_.kept, s_.kept);
      if (!s_.kept || a_.cell == Cell::kGru)
        visit(time_.row<const T>(a_.output, t, b), a_.output.row, s_.hidden);
    };
    each([&](const T* first, int64_t stride, int64_t width) {
      if (member_.size == 1 && stride == width) return later_rows_.want(first, rows * width);
      constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
      const int64_t from = member_.begin(width), to = member_.end(width);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = from; i < to; i += kLine) __builtin_prefetch(first + r * stride + i, 0, 2);
    });
  }

  /// Takes the norms of the step's dL/dh, or of a team's rows the sums of squares of own columns.
  /// In float64: so 1e-23 in float32 still counts.
  void measure_rows(int64_t t, int64_t alive, int64_t row) const {
    const bool alone = member_.size == 1;
    double* const place = alone ? d_.state_norms + time_.index(t, block_.first)
                                : norms_ + member_.rank * chunk_ + row;
    const int64_t from = alone ? 0 : tiling_.begin_of(member_.rank) * L;
    const int64_t to = alone ? width_ : tiling_.begin_of(member_.rank + 1) * L;
    const auto square = [](const T* d) GRADREACH_INLINE_LAMBDA {
      const Wide wide = widen(d, kWide);
      return wide * wide;
    };
    int64_t r = 0;
    for (; r + 4 <= alive; r += 4) {  // so that sums do not wait for each other
      const T* const first = flow_ + r * width_;
      Wide a = {}, b = {}, c = {}, d = {};
      for (int64_t j = from; j < to; j += kWide) {
        a += square(first + j);
        b += square(first + width_ + j);
        c += square(first + 2 * width_ + j);
        d += square(first + 3 * width_ + j);
      }
      place[r] = lane_sum(a);
      place[r + 1] = lane_sum(b);
      place[r + 2] = lane_sum(c);
      place[r + 3] = lane_sum(d);
    }
    for (; r < alive; ++r) {
      Wide a = {};
      for (int64_t j = from; j < to; j += kWide) a += square(flow_ + r * width_ + j);
      place[r] = lane_sum(a);
    }
    for (r = 0; alone && r < alive; ++r) place[r] = __builtin_sqrt(place[r]);
  }

  /// Where the parts of dL/dh_t of one row are; found once a row, since the compiler has to take
  /// every store for one that may change what `this` points to.
  struct Row {
    T* flow;
    const T *pass, *upstream, *end;  // each may be null
  };
  GRADREACH_INLINE Row row_of(int64_t r, bool ends) const {
    const T* const end = ends ? static_cast<const T*>(d_.hidden_n) : nullptr;
    return {flow_ + r * width_, a_.cell == Cell::kGru ? pass_ + r * width_ : nullptr, upstream_[r],
            end ? end + (block_.first + r) * s_.hidden : nullptr};
  }
  /// dL/dh_t of one vector of units: flow, output, the end, what skips bring.
  GRADREACH_INLINE V arriving(const Row& row, int64_t p, int64_t r, int64_t u, int lanes) const {
    V delta = load(row.flow + u * L);
    if (row.pass) delta += load(row.pass + u * L);
    if (row.upstream) delta += load_some(row.upstream + u * L, lanes);
    if (row.end) delta += load_some(row.end + u * L, lanes);
    for (int64_t j = 0; j < a_.skip_count; ++j) {
      const int64_t later = p + a_.skips[j];
      if (later < s_.steps && block_.first + r < time_.rows(time_.at(later)))
        delta += load(w_.carry[j] + u * L) * load(past(later, r) + u * L);
    }
    return delta;
  }
  T* past(int64_t p, int64_t r) const {
    return history_ + (p % ring_ * block_.size() + r) * width_;
  }

  /// What a state's gradient gives to the skips and their weights.
  GRADREACH_INLINE void pass_skips(V delta, int64_t p, int64_t r, int64_t u) {
    if (a_.skip_count == 0) return;
    const int lanes = s_.lanes(u);
    store(past(p, r) + u * L, delta);
    for (int64_t j = 0; j < a_.skip_count; ++j) {
      const T* const from = skipped_[j * block_.size() + r];
      if (!from) continue;
      if (sums.carries) {
        T* const sum = sums.carries + j * width_ + u * L;
        store(sum, load(sum) + delta * load_some(from + u * L, lanes));
      }
      if (!start_ || from != start_of<T>(a_, block_.first + r)) continue;
      T* const start = start_ + r * width_ + u * L;
      store(start, load(start) + load(w_.carry[j] + u * L) * delta);
    }
  }

  /// Rows of a step to which nothing but flow and upstream gradient arrives, as most: the first.
  int64_t plain_rows(int64_t fed) const { return a_.skip_count == 0 && d_.output.data ? fed : 0; }
  /// visit(dL/dh, vector of units, lanes) along such a row; leaves dL/dh where its flow was. On its
  /// own: the questions after what else there may be take as long as the answer.
  template <bool Passes, class F>
  GRADREACH_INLINE void walk_plainly(const Row& row, int64_t unit, int units, F&& visit) const {
    const Row from = row;
    const int64_t hidden = s_.hidden, end = (unit + units) * L;
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
      const int lanes = s_.lanes(u);
      const V d = arriving(parts, p, r, u, lanes);
      store(parts.flow + u * L, d);
      pass_skips(d, p, r, u);
      visit(d, u, lanes);
    }
  }

  template <class Phi>
  void rnn(const Phi& phi, int64_t p, int64_t alive, int64_t fed, T* delta, int64_t unit,
           int units) {
    const bool twice = s_.keeps_output;
    const bool whole = s_.kept != 0;  // vectors of the reserve are padded
    const T* const scale = w_.scale;
    T *const scale_sum = sums.scale, *const bias_sum = sums.activation_bias;
    const int64_t plain = scale || w_.activation_bias ? 0 : plain_rows(fed);
    for (int64_t r = 0; r < alive; ++r) {
      const T *const kept = kept_[r], *const output = twice ? kept + s_.kept_gates : nullptr;
      T* const out = delta + r * stride_;
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
          if (scale_sum) add(scale_sum + u * L, d * (output ? load(output + u * L) : value));
          d *= load(scale + u * L);
        }
        d *= phi.slope(value);
        if (bias_sum)  // modReLU: sign(a) where the unit is on
          add(bias_sum + u * L, value > T(0) ? d : -d);
        store(out + u * L, d);
      });
    }
    if (most_)
      observe(alive, unit, units, [=](const T* kept, int64_t u, int lanes) GRADREACH_INLINE_LAMBDA {
        return phi.slope(load_some(kept + u * L, whole ? L : lanes));
      });
  }

  void gru(int64_t p, int64_t alive, int64_t fed, T* delta, int64_t unit, int units) {
    const int64_t plain = plain_rows(fed);
    for (int64_t r = 0; r < alive; ++r) {
      const T *const kept = kept_[r], *const before = before_[r];
      T *const pass = pass_ + r * width_, *const row_out = delta + r * stride_;
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
    if (most_) observe_candidates(alive, unit, units, 0);
    if (sums.gates) observe_gates(alive, unit, units);
  }

  void lstm(int64_t p, int64_t t, int64_t alive, int64_t fed, T* delta, int64_t unit, int units) {
    const int64_t plain = plain_rows(fed);
    const int64_t earlier = time_.rows(time_.earlier(t, 1));
    for (int64_t r = 0; r < alive; ++r) {
      const int64_t b = block_.first + r;
      const T *const kept = kept_[r], *const before_row = before_[r];
      const bool first = b >= earlier;
      const T* const end =
          r >= fed && d_.cell_n ? static_cast<const T*>(d_.cell_n) + b * s_.hidden : nullptr;
      T *const pass = pass_ + r * width_, *const row_out = delta + r * stride_;
      const T* const cells = kept + s_.kept_gates;
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
    if (most_) observe_candidates(alive, unit, units, 2);
    if (sums.gates) observe_gates(alive, unit, units);
  }

  static GRADREACH_INLINE void add(T* place, V value) { store(place, load(place) + value); }

  // What is observed of a step is read once more when its gradients stand: unit by unit, so that
  // counts and sums over the rows stay in registers.

  /// Largest |slope(kept row, unit, lanes)| of the step's rows, and how many are below 0.05.
  template <class F>
  GRADREACH_INLINE void observe(int64_t alive, int64_t unit, int units, F&& slope) {
    for (int64_t u = unit; u < unit + units; ++u) {
      Int *const most_place = most_ + u * L, *const few_place = few_ ? few_ + u * L : nullptr;
      M most, few = {};
      std::memcpy(&most, most_place, sizeof most);
      const auto each = [&](int lanes) GRADREACH_INLINE_LAMBDA {
        GRADREACH_TWICE
        for (int64_t r = 0; r < alive; ++r) {
          const V size = vabs<T>(slope(kept_[r], u, lanes));
          most = larger_bits<T>(most, (M)size);
          few = counted_below<T>(few, size, T(0.05));
        }
      };
      const int lanes = s_.lanes(u);
      if (lanes == L)
        each(L);
      else
        each(lanes);
      std::memcpy(most_place, &most, sizeof most);
      if (!few_place) continue;
      M before;
      std::memcpy(&before, few_place, sizeof before);
      before += few;
      std::memcpy(few_place, &before, sizeof before);
    }
  }
  void observe_candidates(int64_t alive, int64_t unit, int units, int vector) {
    observe(alive, unit, units, [=](const T* kept, int64_t u, int) GRADREACH_INLINE_LAMBDA {
      const V candidate = load(kept + (u * 4 + vector) * L);
      return T(1) - candidate * candidate;
    });
  }
  /// Adds the gates of the step's rows to their sums. Up to kTogether rows are added in T before
  /// they meet the float64 sums: gates lie in [-1, 1], so that in float32 a sum of 32 is wrong by
  /// 31 · 2^-24 of the sum of magnitudes at most, 2e-6, and what is asked is a mean.
  void observe_gates(int64_t alive, int64_t unit, int units) {
    constexpr int64_t kTogether = 32;
    const int group = s_.gates.group;
    for (int64_t from = 0; from < alive; from += kTogether) {
      const int64_t to = from + kTogether < alive ? from + kTogether : alive;
      for (int64_t v = unit * group; v < (unit + units) * group; ++v) {
        V sum = {};
        for (int64_t r = from; r < to; ++r) sum += load(kept_[r] + v * L);
        double* const place = sums.gates + v * L;
        for (int lane = 0; lane < L; ++lane) place[lane] += static_cast<double>(sum[lane]);
      }
    }
  }
  void finish_observed() {
    if (few_) keep_counts();
    for (int64_t i = 0; most_ && i < width_; ++i) {
      T most;
      std::memcpy(&most, most_ + i, sizeof most);
      sums.slope_max[i] = static_cast<double>(most);
    }
  }
  /// Adds the counts of few_ to their sums, before they could leave the range of Int.
  void keep_counts() {
    for (int64_t i = 0; i < width_; ++i) sums.slope_low[i] += static_cast<double>(few_[i]);
    zero(few_, width_);
    counted_ = 0;
  }

  /// Rows whose first step this was: their gradient goes to the initial state.
  void leave(int64_t p, int64_t alive, T* delta) {
    const int64_t before = p == 0 ? 0 : block_.alive(time_.rows(time_.at(p - 1)));
    const int64_t begins = before < alive ? before : alive;
    if (begins == alive || !start_) return;
    for (int64_t r = begins; r < alive; ++r) {
      left_[r] = delta + r * stride_ + s_.gates.state_at * L;
      out_[r] = start_ + r * width_;
    }
    tiling_.each(member_, [&](int64_t unit, int units) {
      times_state(unit, units, alive - begins, left_ + begins, out_ + begins, Into::kAdd);
      if (a_.cell == Cell::kGru)
        for (int64_t r = begins; r < alive; ++r)
          for (int64_t u = unit; u < unit + units; ++u)
            add(start_ + r * width_ + u * L, load(pass_ + r * width_ + u * L));
    });
  }

  void finish_start() {
    if (!start_) return;
    tiling_.each(member_, [&](int64_t unit, int units) {
      for (int64_t r = 0; r < block_.size(); ++r)
        for (int64_t u = unit; u < unit + units; ++u) {
          const int64_t at = (block_.first + r) * s_.hidden + u * L;
          if (d_.hidden0)
            store_some(static_cast<T*>(d_.hidden0) + at, load(start_ + r * width_ + u * L),
                       s_.lanes(u));
          if (d_.cell0)
            store_some(static_cast<T*>(d_.cell0) + at, load(pass_ + r * width_ + u * L),
                       s_.lanes(u));
        }
    });
  }

  /// Visits the steps of a chunk in the order of the delta buffer: visit(first row, t, rows).
  template <class F>
  void each_step(int64_t first, int64_t last, F&& visit) const {
    int64_t row = 0;
    for (int64_t p = last - 1; p >= first; --p) {
      const int64_t t = time_.at(p), alive = block_.alive(time_.rows(t));
      if (alive > 0) visit(row, t, alive);
      row += alive;
    }
  }
  /// Visits their rows: visit(row, t, b).
  template <class F>
  void each_row(int64_t first, int64_t last, F&& visit) const {
    each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      for (int64_t r = 0; r < alive; ++r) visit(row + r, t, block_.first + r);
    });
  }

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
        const Into into = added_ || part > 0 ? Into::kAdd : Into::kStore;
        pack_rows(left_ + first, depth, from, to, columns);
        for (int64_t u = member_.begin(s_.units); u < member_.end(s_.units); ++u)
          for (int g = 0; g < s_.gates.count; ++g) {
            T* out[L < 8 ? 8 : L];  // a tile has at most eight rows
            for (int lane = 0; lane < s_.lanes(u); ++lane)
              out[lane] = weight + (torch_gate[g] * s_.hidden + u * L + lane) * columns;
            outer_product(static_cast<int>(to - from), s_.lanes(u),
                          deltas_ + first * stride_ + (u * s_.gates.group + at + g) * L, stride_,
                          depth, panel_, out, from * L, static_cast<int>(tail < L ? tail : L),
                          into);
          }
      }
    }
  }

  /// Sums over the rows of (1, x) times delta, in own columns: biases, and W_ih of few inputs.
  void add_narrow(int64_t rows) {
    constexpr int kSide = 4;  // sums side by side, so that they do not wait for each other
    const int64_t kept = s_.units * s_.gates.group, inputs = inputs_summed();
    for (int64_t v = member_.begin(kept); v < member_.end(kept); ++v) {
      const T* const column = deltas_ + v * L;
      for (int64_t first = 0; first < inputs; first += kSide) {
        V sum[kSide] = {};
        const int64_t n = inputs - first < kSide ? inputs - first : kSide;
        for (int64_t k = 0; k < rows; ++k) {
          const V delta = load(column + k * stride_);
          const T* const x = narrow_ + k * s_.inputs + first;
          for (int i = 0; i < kSide; ++i) sum[i] += splat(i < n ? x[i] : T(0)) * delta;
        }
        for (int64_t i = 0; i < n; ++i)
          add(sums.inputs + (first + i) * s_.kept_gates + v * L, sum[i]);
      }
      V sum[kSide] = {};
      int64_t k = 0;
      for (; k + kSide <= rows; k += kSide)
        for (int i = 0; i < kSide; ++i) sum[i] += load(column + (k + i) * stride_);
      for (; k < rows; ++k) sum[0] += load(column + k * stride_);
      add(sums.inputs + inputs * s_.kept_gates + v * L, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }

  void accumulate(int64_t first, int64_t last, int64_t rows) {
    if (few_ && member_.rank == 0) {
      counted_ += rows;
      if (counted_ > int64_t{1} << 30) keep_counts();
    }
    if (norms_ && member_.size > 1) keep_norms(first, last);
    if (d_.pre_activation && member_.rank == 0) copy_pre_activation(first, last);
    if (d_.input.data) add_inputs(first, last, rows);
    if (d_.weight_hh) {
      each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
        states_before(a_, time_, t, block_.first, alive, left_ + row);
      });
      add_weight(rows, s_.hidden, s_.gates.state_gate, s_.gates.state_at, sums.weight_hh);
    }
    if (sums.weight_ih || inputs_summed())
      each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
        lay_rows(left_ + row, alive, time_.row<const T>(a_.input, t, block_.first), a_.input.row);
      });
    if (sums.weight_ih)
      add_weight(rows, s_.inputs, s_.gates.input_gate, s_.gates.input_at, sums.weight_ih);
    if (inputs_summed()) {
      for (int64_t k = member_.begin(rows); k < member_.end(rows); ++k)
        for (int64_t i = 0; i < s_.inputs; ++i) narrow_[k * s_.inputs + i] = left_[k][i];
      member_.sync();
    }
    if (inputs_summed() || d_.bias_ih || d_.bias_hh) add_narrow(rows);
    added_ = true;
    // The chunk before this one begins with products of what its first step left.
    const int64_t left = first > 0 ? block_.alive(time_.rows(time_.at(first))) : 0;
    for (int64_t r = member_.begin(left); r < member_.end(left); ++r)
      std::memcpy(later_ + r * stride_, next_ + r * stride_,
                  static_cast<size_t>(stride_) * sizeof(T));
    next_ = later_;
    member_.sync();
  }

  void keep_norms(int64_t first, int64_t last) {
    each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      double* const norms = d_.state_norms + time_.index(t, block_.first);
      for (int64_t r = member_.begin(alive); r < member_.end(alive); ++r) {
        double sum = norms_[row + r];
        for (int m = 1; m < member_.size; ++m) sum += norms_[m * chunk_ + row + r];
        norms[r] = __builtin_sqrt(sum);
      }
    });
  }

  /// dL/dx of own rows of a chunk.
  void add_inputs(int64_t first, int64_t last, int64_t rows) {
    const T* const delta = deltas_ + s_.gates.input_at * L;
    each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      lay_rows(out_ + row, alive, time_.row<T>(d_.input, t, block_.first), d_.input.row);
    });
    const int64_t from = member_.begin(rows), to = member_.end(rows);
    if (dotted(s_.inputs)) return dot_inputs(delta, from, to);
    lay_rows(left_, rows, delta, stride_);
    const int64_t depth = s_.units * s_.gates.count * L, vectors = (s_.inputs + L - 1) / L;
    const Split tiles = wide_tiles(vectors);
    for (int64_t i = 0; i < tiles.parts; ++i) {
      const int64_t v = tiles.begin(i), end = tiles.begin(i + 1);
      const int64_t tail = s_.inputs - (end - 1) * L;
      const int columns = static_cast<int>(tail < L ? tail : L), width = static_cast<int>(end - v);
      if (w_.input)
        product(width, to - from, left_ + from, gate_walk(), w_.input + v * L * depth, out_ + from,
                v * L, columns, Into::kStore);
      else
        product(width, to - from, left_ + from, Walk{1, s_.hidden, 0},
                Right<T>{static_cast<const T*>(a_.weight_ih) + v * L, s_.inputs, true}, out_ + from,
                v * L, columns, Into::kStore);
    }
  }

  /// The same of few inputs.
  void dot_inputs(const T* delta, int64_t from, int64_t to) const {
    const Walk walk = gate_walk();
    const int64_t depth = walk.depth();
    for (int64_t row = from; row < to; ++row)
      for (int64_t i = 0; i < s_.inputs; ++i) {
        const T *place = delta + row * stride_, *column = w_.input + i * depth;
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
    const int64_t wide = s_.gates.count * s_.hidden;
    each_row(first, last, [&](int64_t row, int64_t t, int64_t b) {
      T* const out = static_cast<T*>(d_.pre_activation) + time_.index(t, b) * wide;
      const T* const delta = deltas_ + row * stride_;
      for (int64_t u = 0; u < s_.units; ++u)
        for (int g = 0; g < s_.gates.count; ++g)
          store_some(out + s_.gates.input_gate[g] * s_.hidden + u * L,
                     load(delta + (u * s_.gates.group + s_.gates.input_at + g) * L), s_.lanes(u));
    });
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
