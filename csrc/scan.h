// The float64 reverse scan of torch's own layers: a stretch of steps, the last one first.
//
// Local derivatives are computed from the user's numbers on the way; nothing but the gradients
// themselves is written. Threads split the rows, or the columns where the weights are large.
#pragma once

#include "plan.h"
#include "rows.h"
#include "scan_calls.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

struct ScanShape {
  int64_t rows, hidden, gates, units, side, stride;  // side: G*H; stride: of a padded left row

  explicit ScanShape(const ScanCall& a)
      : rows(a.probes * a.batch),
        hidden(a.hidden_size),
        gates(a.kind == 0   ? 1
              : a.kind == 1 ? 3
                            : 4),
        units((a.hidden_size + kWide - 1) / kWide),
        side(gates * a.hidden_size),
        stride(padded_stride<double>(gates * a.hidden_size)) {}
};

/// Rows over the threads, unless the weights then fall out of a core's own cache, or few are left.
inline Plan scan_plan(const ScanCall& a, const ScanShape& s) {
  constexpr int64_t kOwnCache = 1024 * 1024, kFewRows = 6;
  const double flops =
      2.0 * static_cast<double>(s.rows * s.side) * static_cast<double>(s.hidden * a.steps);
  Plan plan;
  const int threads = threads_for(a.threads, flops >= 4e5);
  if (threads == 1) return plan;
  const bool split_rows = a.outside || s.side * s.hidden * 8 <= kOwnCache || s.units < threads;
  if (split_rows && (s.rows >= kFewRows * threads || a.outside || s.units < threads)) {
    plan.teams = static_cast<int>(s.rows < threads ? s.rows : threads);
  } else {
    plan.members = threads;
  }
  return plan;
}

inline int64_t scan_panels(const ScanCall& a) {
  const ScanShape s(a);
  return s.side * s.units * kWide;
}

inline int64_t scan_left(const ScanCall& a) {
  const ScanShape s(a);
  return 2 * s.rows * s.stride;
}

/// Packs W as right operand of (gradient of the gates) W: one vector of columns after the other.
template <class U>
void scan_pack(const ScanCall& a) {
  const ScanShape s(a);
  const U* const weight = static_cast<const U*>(a.weight);
  const Split split = wide_tiles(s.units);
  for (int64_t i = 0; i < split.parts; ++i) {
    const int64_t first = split.begin(i), last = split.begin(i + 1);
    double* out = a.panels + first * kWide * s.side;
    for (int64_t k = 0; k < s.side; ++k)
      for (int64_t u = first; u < last; ++u, out += kWide) {
        const int64_t left = s.hidden - u * kWide;
        store(out, widen(weight + k * s.hidden + u * kWide,
                         static_cast<int>(left < kWide ? left : kWide)));
      }
  }
}

/// One thread's part of a stretch.
template <class U>
class Scan {
 public:
  Scan(const ScanCall& a, const ScanShape& s, int64_t first, int64_t last, const Member& member)
      : a_(a), s_(s), first_(first), last_(last), member_(member), tiles_(wide_tiles(s.units)) {
    from_ = tiles_.begin(tile(member.rank)) * kWide;
    to_ = tiles_.begin(tile(member.rank + 1)) * kWide;
    if (to_ > s.hidden) to_ = s.hidden;
  }

  void run() {
    for (int64_t k = a_.steps - 1; k >= 0; --k) {
      double* const left = a_.left + (k & 1) * s_.rows * s_.stride;
      for (int64_t row = first_; row < last_; ++row) {
        add_end(k, row);
        if (a_.keep) arrive(k, row);
        switch (a_.kind) {
          case 0:
            rnn(k, row, left + row * s_.stride);
            break;
          case 1:
            gru(k, row, left + row * s_.stride);
            break;
          default:
            lstm(k, row, left + row * s_.stride);
            break;
        }
        if (a_.keep && member_.size == 1) keep(k, row, left + row * s_.stride);
      }
      member_.sync();
      if (a_.keep && member_.size > 1) {  // whole rows are there now, until the next but one step
        const int64_t rows = last_ - first_;
        for (int64_t i = member_.begin(rows); i < member_.end(rows); ++i)
          keep(k, first_ + i, left + (first_ + i) * s_.stride);
      }
      if (a_.cuts && a_.cuts[k])
        forget();
      else
        multiply(k, left);
    }
  }

 private:
  const ScanCall& a_;
  const ScanShape& s_;
  const int64_t first_, last_;
  const Member member_;
  const Split tiles_;
  int64_t from_, to_;  // own columns

  int64_t tile(int rank) const { return rank * tiles_.parts / member_.size; }
  const U* series(int which, int64_t k, int64_t row) const {
    return a_.series[which].at<U>(k, row % a_.batch);
  }
  int64_t at(int64_t k, int64_t row) const {
    return ((a_.keep ? k & 1 : k) * s_.rows + row) * s_.hidden;
  }

  /// What arrives at own columns of a step, as float64.
  void arrive(int64_t k, int64_t row) const {
    double* const delta = a_.hidden + at(k, row);
    const int64_t place = k * a_.arriving.step + row * a_.arriving.row;
    const void* const data = a_.arriving.data;
    each_vector(from_, to_, [&](int64_t j, int n) {
      Wide d = {};
      if (data && a_.arriving_wide)
        d = widen(static_cast<const double*>(data) + place + j, n);
      else if (data)
        d = widen(static_cast<const U*>(data) + place + j, n);
      store_some(delta + j, d, n);
      if (a_.cell) store_some(a_.cell + at(k, row) + j, Wide{}, n);
    });
  }

  static void keep_row(const KeptRows& kept, int64_t row, const double* values, int64_t size) {
    if constexpr (sizeof(U) == 8)
      std::memcpy(static_cast<double*>(kept.values) + row * size, values,
                  static_cast<size_t>(size) * sizeof(double));
    else
      scale_row(values, size, static_cast<float*>(kept.values) + row * size, kept.scales + row);
  }

  /// Keeps a row of a step's gradients and takes its norm.
  void keep(int64_t k, int64_t row, const double* left) const {
    const int64_t size = s_.hidden, place = k * s_.rows + row;
    const auto norm = [&](const double* values) {
      return norm_of(size, [&](int64_t i, int n) { return widen(values + i, n); });
    };
    const double* const delta = a_.hidden + at(k, row);
    keep_row(a_.kept_hidden, place, delta, size);
    double whole = norm(delta);
    if (a_.cell) {
      keep_row(a_.kept_cell, place, a_.cell + at(k, row), size);
      whole = __builtin_hypot(whole, norm(a_.cell + at(k, row)));
    }
    a_.norms[place] = whole;
    if (a_.input_side) {
      keep_row(a_.kept_side, place, a_.input_side + 3 * at(k, row), s_.side);
      keep_row(a_.kept_last, place, left + 2 * size, size);
    } else {
      keep_row(a_.kept_side, place, left, s_.side);
    }
  }

  void add_end(int64_t k, int64_t row) const {
    if (a_.lengths[row % a_.batch] - 1 != a_.start + k) return;
    add(a_.end_hidden, a_.flow_hidden, row);
    if (a_.flow_cell) add(a_.end_cell, a_.flow_cell, row);
  }
  void add(const double* end, double* flow, int64_t row) const {
    if (!end) return;
    for (int64_t j = from_; j < to_; ++j) flow[row * s_.hidden + j] += end[row * s_.hidden + j];
  }

  /// Replaces a total by what the flow does not explain. Rows are whole here: one member.
  void separate(double* arrived, double* outside, const double* flow) const {
    double scale = 0.0, difference = 0.0;
    bool nan = false;
    for (int64_t j = 0; j < s_.hidden; ++j) {
      // An infinity is what a flow too large for the user's dtype has become, or entered here.
      if (__builtin_isinf(arrived[j]) &&
          flow[j] * __builtin_copysign(1.0, arrived[j]) >= a_.overflow)
        arrived[j] = flow[j];
      const double total = __builtin_fabs(arrived[j]), known = __builtin_fabs(flow[j]);
      const double d = __builtin_fabs(arrived[j] - flow[j]);
      scale = total > scale ? total : scale;
      scale = known > scale ? known : scale;
      difference = d > difference ? d : difference;
      nan |= d != d;
    }
    const bool explained =
        !nan && scale < __builtin_inf() && difference <= a_.noise * scale + a_.lost;
    for (int64_t j = 0; j < s_.hidden; ++j)
      outside[j] = arrived[j] = explained ? 0.0 : arrived[j] - flow[j];
  }

  void rnn(int64_t k, int64_t row, double* left) const {
    double* const delta = a_.hidden + at(k, row);
    const double* const flow = a_.flow_hidden + row * s_.hidden;
    if (a_.outside) separate(delta, a_.outside + at(k, row), flow);
    const U* const h = series(0, k, row);
    double* const side = a_.keep ? nullptr : a_.recurrent_side + at(k, row);
    const bool relu = a_.relu;
    each_vector(from_, to_, [&](int64_t j, int n) {
      const Wide d = widen(delta + j, n) + widen(flow + j, n), x = widen(h + j, n);
      Wide slope = 1.0 - x * x;
      if (relu) slope = x > 0.0 ? splat(1.0) : (x == x ? Wide{} : x);  // NaN stays NaN
      const Wide out = d * slope;
      store_some(delta + j, d, n);
      if (side) store_some(side + j, out, n);
      store_some(left + j, out, n);
    });
  }

  void gru(int64_t k, int64_t row, double* left) const {
    const int64_t size = s_.hidden;
    double* const delta = a_.hidden + at(k, row);
    double* const flow = a_.flow_hidden + row * size;
    if (a_.outside) separate(delta, a_.outside + at(k, row), flow);
    const U *const r = series(0, k, row), *const z = series(1, k, row),
                   *const c = series(2, k, row), *const q = series(3, k, row),
                   *const before = series(4, k, row);
    double* const side = a_.keep ? nullptr : a_.recurrent_side + 3 * at(k, row);
    double* const input = a_.input_side + 3 * at(k, row);
    each_vector(from_, to_, [&](int64_t j, int n) {
      const Wide d = widen(delta + j, n) + widen(flow + j, n);
      const int64_t u = a_.gates.at(j);
      const Wide reset = widen(r + u, n), keep = widen(z + u, n), fresh = widen(c + u, n);
      const Wide candidate = d * ((1.0 - keep) * (1.0 - fresh * fresh));
      const Wide dr = candidate * widen(q + u, n) * (reset * (1.0 - reset));
      const Wide dz = d * ((widen(before + j, n) - fresh) * (keep * (1.0 - keep)));
      const Wide dq = candidate * reset;
      store_some(delta + j, d, n);
      store_some(flow + j, d * keep, n);  // multiply() adds to it
      const Wide out[3] = {dr, dz, dq};
      for (int g = 0; g < 3; ++g) {
        if (side) store_some(side + g * size + j, out[g], n);
        store_some(input + g * size + j, g == 2 ? candidate : out[g], n);
        store_some(left + g * size + j, out[g], n);
      }
    });
  }

  void lstm(int64_t k, int64_t row, double* left) const {
    const int64_t size = s_.hidden;
    double* const delta = a_.hidden + at(k, row);
    double* const delta_cell = a_.cell + at(k, row);
    const double* const flow = a_.flow_hidden + row * size;
    double* const flow_cell = a_.flow_cell + row * size;
    const U *const i = series(0, k, row), *const f = series(1, k, row),
                   *const g = series(2, k, row), *const o = series(3, k, row),
                   *const c = series(4, k, row);
    const U* const before = a_.first_cell && a_.start + k == 0
                                ? static_cast<const U*>(a_.first_cell) + row % a_.batch * size
                                : series(5, k, row);
    if (a_.outside) {
      separate(delta, a_.outside + at(k, row), flow);
      for (int64_t j = 0; j < size; ++j) {  // what reaches c through h is part of its flow
        const double t = std::tanh(static_cast<double>(c[j]));
        flow_cell[j] +=
            (delta[j] + flow[j]) * (static_cast<double>(o[a_.gates.at(j)]) * (1.0 - t * t));
      }
      separate(delta_cell, a_.outside_cell + at(k, row), flow_cell);
    }
    double* const side = a_.keep ? nullptr : a_.recurrent_side + 4 * at(k, row);
    const bool through = !a_.outside;
    each_vector(from_, to_, [&](int64_t j, int n) {
      const Wide d = widen(delta + j, n) + widen(flow + j, n), squashed = vtanh(widen(c + j, n));
      const int64_t u = a_.gates.at(j);
      const Wide in = widen(i + u, n), forget = widen(f + u, n), out = widen(o + u, n);
      const Wide candidate = widen(g + u, n);
      Wide dc = widen(delta_cell + j, n) + widen(flow_cell + j, n);
      if (through) dc += d * (out * (1.0 - squashed * squashed));
      store_some(delta + j, d, n);
      store_some(delta_cell + j, dc, n);
      store_some(flow_cell + j, dc * forget, n);
      const Wide sides[4] = {
          dc * (candidate * in * (1.0 - in)), dc * (widen(before + j, n) * forget * (1.0 - forget)),
          dc * (in * (1.0 - candidate * candidate)), d * (squashed * out * (1.0 - out))};
      for (int gate = 0; gate < 4; ++gate) {
        if (side) store_some(side + gate * size + j, sides[gate], n);
        store_some(left + gate * size + j, sides[gate], n);
      }
    });
  }

  /// The flow to the step before, in own columns.
  void multiply(int64_t, const double* left) const {
    constexpr int kRows = 64;
    const double* lefts[kRows];
    double* outs[kRows];
    const Into into = a_.kind == 1 ? Into::kAdd : Into::kStore;
    for (int64_t i = tile(member_.rank); i < tile(member_.rank + 1); ++i) {
      const int64_t u = tiles_.begin(i), end = tiles_.begin(i + 1);
      const int64_t tail = s_.hidden - (end - 1) * kWide;
      for (int64_t row = first_; row < last_; row += kRows) {
        const int64_t count = last_ - row < kRows ? last_ - row : kRows;
        for (int64_t m = 0; m < count; ++m) {
          lefts[m] = left + (row + m) * s_.stride;
          outs[m] = a_.flow_hidden + (row + m) * s_.hidden;
        }
        product(static_cast<int>(end - u), count, lefts, Walk{1, s_.side, 0},
                static_cast<const double*>(a_.panels) + u * kWide * s_.side, outs, u * kWide,
                static_cast<int>(tail < kWide ? tail : kWide), into);
      }
    }
  }

  /// A cut: nothing flows on.
  void forget() const {
    for (int64_t row = first_; row < last_; ++row)
      for (int64_t j = from_; j < to_; ++j) {
        a_.flow_hidden[row * s_.hidden + j] = 0.0;
        if (a_.flow_cell) a_.flow_cell[row * s_.hidden + j] = 0.0;
      }
  }
};

template <class U>
void scan(const ScanCall& a) {
  const ScanShape s(a);
  if (s.rows == 0 || s.hidden == 0) return;
  const Plan plan = scan_plan(a, s);
  Barrier barriers[kMostThreads];
  on_threads(plan, barriers, [&](int team, const Member& member) {
    Scan<U>(a, s, team * s.rows / plan.teams, (team + 1) * s.rows / plan.teams, member).run();
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
