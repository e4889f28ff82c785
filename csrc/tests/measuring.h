// What a measurement asks of the core, on small arrays: each an allocation of its own of exactly
// the size that scan_calls.h promises.
#pragma once

#include <deque>
#include <vector>

#include "../table.h"
#include "numbers.h"

/// One measurement of a tape; `results` is what it found, for all kernels one after the other.
template <class U>
class Measuring {
  using Series = gradreach::Series;
  static constexpr bool kWide = sizeof(U) == 8;

 public:
  std::vector<double> results;

  Measuring(const gradreach::KernelTable& kernels, int kind, int64_t steps, int64_t batch,
            int64_t inputs, int64_t hidden, int threads)
      : k_(kernels),
        kind_(kind),
        steps_(steps),
        batch_(batch),
        inputs_(inputs),
        hidden_(hidden),
        gates_(kind == 0   ? 1
               : kind == 1 ? 3
                           : 4),
        threads_(threads) {}

  bool run() {
    scan(2, false, false);
    scan(2, true, false);
    scan(1, false, true);
    rows();
    linear();
    open_gates();
    const bool right = terms();
    return kWide ? right : products() && gram() && right;
  }

 private:
  const gradreach::KernelTable& k_;
  const int kind_;
  const int64_t steps_, batch_, inputs_, hidden_, gates_;
  const int threads_;
  uint64_t seed_ = 0;
  std::deque<std::vector<U>> user_;       // a deque does not move what it holds
  std::deque<std::vector<double>> wide_;  // every array lives as long as this

  U* user(int64_t count) {
    user_.push_back(drawn<U>(static_cast<size_t>(count), ++seed_));
    return user_.back().data();
  }
  double* wide(int64_t count, double value) {
    wide_.emplace_back(static_cast<size_t>(count), value);
    return wide_.back().data();
  }
  double* drawn_wide(int64_t count) {
    wide_.push_back(drawn<double>(static_cast<size_t>(count), ++seed_));
    return wide_.back().data();
  }
  Series series(int64_t size) { return {user(steps_ * batch_ * size), batch_ * size, size}; }
  template <class N>
  void found(const N* values, int64_t count) {
    for (int64_t i = 0; values && i < count; ++i) results.push_back(static_cast<double>(values[i]));
  }

  std::vector<int64_t> lengths() const {
    std::vector<int64_t> all;
    for (int64_t b = 0; b < batch_; ++b) all.push_back(steps_ - b % 3 > 0 ? steps_ - b % 3 : 1);
    return all;
  }

  /// The reverse scan of P gradients: with totals, of which it finds what came from outside; or as
  /// one that keeps what it finds.
  void scan(int64_t probes, bool totals, bool keep) {
    const int64_t states = probes * batch_ * hidden_, side = gates_ * hidden_;
    const std::vector<int64_t> ends = lengths();
    std::vector<uint8_t> cuts(static_cast<size_t>(steps_), 0);
    cuts[static_cast<size_t>(steps_ / 2)] = 1;
    gradreach::ScanCall a;
    a.kind = kind_;
    a.probes = probes;
    a.batch = batch_;
    a.hidden_size = hidden_;
    a.threads = threads_;
    a.steps = steps_;
    a.lengths = ends.data();
    a.weight = user(side * hidden_);
    a.panels = wide(k_.scan_panels(a), 0.0);
    a.left = wide(k_.scan_left(a), 0.0);
    (kWide ? k_.scan_pack_f64 : k_.scan_pack_f32)(a);
    const int series_count = kind_ == 0 ? 1 : kind_ == 1 ? 5 : 6;
    for (int i = 0; i < series_count; ++i) a.series[i] = series(hidden_);
    a.end_hidden = drawn_wide(states);
    a.flow_hidden = wide(states, 0.0);
    a.cuts = cuts.data();
    if (kind_ == 2) {
      a.end_cell = drawn_wide(states);
      a.flow_cell = wide(states, 0.0);
      a.first_cell = user(batch_ * hidden_);
    }
    const int64_t stretch = keep ? 2 : steps_, rows = steps_ * batch_;
    a.hidden = drawn_wide(stretch * states);
    a.cell = kind_ == 2 ? drawn_wide(stretch * states) : nullptr;
    if (kind_ == 1) a.input_side = wide(stretch * probes * batch_ * side, 0.0);
    if (totals) {
      a.outside = wide(steps_ * states, 0.0);
      if (kind_ == 2) a.outside_cell = wide(steps_ * states, 0.0);
      a.noise = a.lost = 1e-9;
      a.overflow = 1e38;
    }
    if (keep) {
      a.keep = true;
      a.arriving = series(hidden_);
      const auto kept = [&](int64_t size) {
        return gradreach::KeptRows{user(rows * size), kWide ? nullptr : wide(rows, 0.0)};
      };
      a.kept_hidden = kept(hidden_);
      if (kind_ == 2) a.kept_cell = kept(hidden_);
      a.kept_side = kept(side);
      if (kind_ == 1) a.kept_last = kept(hidden_);
      a.norms = wide(rows, 0.0);
    } else {
      a.recurrent_side = wide(steps_ * probes * batch_ * side, 0.0);
    }
    (kWide ? k_.scan_f64 : k_.scan_f32)(a);
    found(a.flow_hidden, states);
    found(a.flow_cell, states);
    if (keep) {
      found(a.norms, rows);
      found(static_cast<U*>(a.kept_side.values), rows * side);
      return;
    }
    found(a.hidden, steps_ * states);
    found(a.recurrent_side, steps_ * probes * batch_ * side);
    found(a.outside, totals ? steps_ * states : 0);
  }

  void rows() {
    const std::vector<int64_t> ends = lengths();
    gradreach::RowsCall a;
    a.steps = steps_;
    a.batch = batch_;
    a.size = hidden_;
    a.threads = threads_;
    a.values = series(hidden_);
    a.norms = wide(steps_ * batch_, 0.0);
    (kWide ? k_.row_norms_f64 : k_.row_norms_f32)(a);
    found(a.norms, steps_ * batch_);
    a.lengths = ends.data();
    a.per_unit = wide(hidden_, 0.0);
    a.per_step = wide(steps_, 0.0);
    a.low = wide(hidden_, 0.0);
    a.zero = wide(hidden_, 0.0);
    a.level = 0.9;
    (kWide ? k_.unit_sums_f64 : k_.unit_sums_f32)(a);
    for (const double* each : {a.per_unit, a.low, a.zero}) found(each, hidden_);
    found(a.per_step, steps_);
    // Gates that lie side by side, as a forward keeps them.
    constexpr int64_t kLanes = 64 / sizeof(U), kGates = 4;
    a.values = series((hidden_ + kLanes - 1) / kLanes * kLanes * kGates);
    a.units = {kLanes, kLanes * kGates};
    a.gates = kGates;
    a.per_unit = wide(kGates * hidden_, 0.0);
    a.per_step = wide(kGates * steps_, 0.0);
    a.low = a.zero = nullptr;
    (kWide ? k_.unit_sums_f64 : k_.unit_sums_f32)(a);
    found(a.per_unit, kGates * hidden_);
    found(a.per_step, kGates * steps_);
  }

  void linear() {
    const int64_t rows = steps_ * batch_, columns = gates_ * hidden_;
    gradreach::LinearCall a;
    a.rows = rows;
    a.columns = columns;
    a.threads = threads_;
    a.addends = 2;
    a.addend[0] = {user(rows * inputs_), user(columns * inputs_), user(columns), inputs_};
    a.addend[1] = {user(rows * hidden_), user(columns * hidden_), nullptr, hidden_};
    a.out = user(rows * columns);
    (kWide ? k_.linear_f64 : k_.linear_f32)(a);
    found(static_cast<U*>(a.out), rows * columns);
  }

  void open_gates() {
    if (kind_ == 0) return;
    const int64_t wide_rows = gates_ * hidden_;
    gradreach::GatesCall a;
    a.kind = kind_;
    a.steps = steps_;
    a.batch = batch_;
    a.hidden_size = hidden_;
    a.threads = threads_;
    a.from_input = user(steps_ * batch_ * wide_rows);
    if (kind_ == 1) {
      a.from_state = user(steps_ * batch_ * wide_rows);
      a.q = user(steps_ * batch_ * hidden_);
    } else {
      a.cells = user((steps_ + 1) * batch_ * hidden_);
      a.carried = drawn_wide(batch_ * hidden_);
    }
    (kWide ? k_.gates_f64 : k_.gates_f32)(a);
    found(static_cast<U*>(a.from_input), steps_ * batch_ * wide_rows);
    found(static_cast<U*>(a.cells), a.cells ? (steps_ + 1) * batch_ * hidden_ : 0);
    found(static_cast<U*>(a.q), a.q ? steps_ * batch_ * hidden_ : 0);
  }

  bool terms() {
    const int64_t width = gates_ * hidden_;
    gradreach::TermsCall a;
    a.steps = steps_;
    a.batch = batch_;
    a.width = width;
    a.columns = inputs_;
    a.threads = threads_;
    a.delta = series(width);
    a.value = series(inputs_);
    a.scales = kWide ? nullptr : wide(steps_ * batch_, 2.0);
    a.total = wide(width * inputs_, 0.0);
    a.norms = wide(steps_, 0.0);
    a.sums = wide(steps_ * width, 0.0);
    bool right = (kWide ? k_.terms_f64 : k_.terms_f32)(a);
    found(a.total, width * inputs_);
    found(a.norms, steps_);
    found(a.sums, steps_ * width);
    a.direction = user(width * inputs_);
    a.along = wide(steps_, 0.0);
    right = (kWide ? k_.terms_along_f64 : k_.terms_along_f32)(a) && right;
    found(a.along, steps_);
    return right;
  }

  /// Once as they come, once with the gradient as the wider factor; without and with a direction.
  bool products() {
    const int64_t width = gates_ * hidden_;
    bool right = true;
    for (const bool turned : {false, true})
      for (const bool directed : {false, true}) {
        gradreach::ProductsCall a;
        a.steps = steps_;
        a.batch = batch_;
        a.rows = turned ? inputs_ : width;
        a.columns = turned ? width : inputs_;
        a.threads = threads_;
        a.left = series(a.rows);
        a.right = series(a.columns);
        a.delta_right = turned;
        a.scales = wide(steps_ * batch_, 2.0);
        a.total = wide(a.rows * a.columns, 0.0);
        // Only float32 comes here: the cast says so to the compiler.
        if (directed) a.direction = reinterpret_cast<const float*>(user(a.rows * a.columns));
        a.along = wide(steps_, 0.0);
        right = k_.products(a) && right;
        found(a.total, a.rows * a.columns);
        found(a.along, directed ? steps_ : 0);
      }
    return right;
  }

  bool gram() {
    gradreach::GramCall a;
    a.steps = steps_;
    a.batch = batch_;
    a.threads = threads_;
    a.parts = 2;  // as a GRU's: what both weights see, and what one of them does
    for (int p = 0; p < a.parts; ++p) {
      a.part[p].width = hidden_;
      a.part[p].delta = series(hidden_);
      a.part[p].scales = wide(steps_ * batch_, 2.0);
      a.part[p].sums = wide(steps_ * hidden_, 0.0);
    }
    a.part[1].of[0] = false;
    for (int i = 0; i < 2; ++i) {
      a.columns[i] = i == 0 ? inputs_ : hidden_;
      a.value[i] = series(a.columns[i]);
      a.norms[i] = wide(steps_, 0.0);
    }
    const bool right = k_.gram_norms(a);
    for (const double* each : a.norms) found(each, steps_);
    for (int p = 0; p < a.parts; ++p) found(a.part[p].sums, steps_ * hidden_);
    return right;
  }
};
