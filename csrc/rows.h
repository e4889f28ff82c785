// Elementwise work on series of states: norms, scales, counts, gates.
#pragma once

#include "run_layer.h"
#include "scan_calls.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Runs work(first, last) on parts of n things, on threads where `elements` numbers are worth it.
template <class F>
void in_parts(int threads, int64_t n, int64_t elements, F&& work) {
  Plan plan;
  plan.members = threads_for(threads, elements > 100000);
  Barrier barrier;
  on_threads(plan, &barrier,
             [&](int, const Member& member) { work(member.begin(n), member.end(n)); });
}

template <class U>
void row_norms(const RowsCall& a) {
  in_parts(a.threads, a.steps, a.steps * a.batch * a.size, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t)
      for (int64_t b = 0; b < a.batch; ++b) {
        const U* const row = a.values.at<U>(t, b);
        a.norms[t * a.batch + b] =
            norm_of(a.size, [&](int64_t i, int n) { return widen(row + i, n); });
      }
  });
}

/// out = the 2-norm of one - other (other may be null), n numbers of each.
template <class U, class O>
double distance(const U* one, const O* other, int64_t n) {
  return norm_of(n, [&](int64_t i, int lanes) {
    const Wide a = widen(one + i, lanes);
    return other ? a - widen(other + i, lanes) : a;
  });
}

/// One row of float64 as float32 with a float64 scale: the largest magnitude, or 1.
inline void scale_row(const double* p, int64_t size, float* q, double* out) {
  // NaN makes the peak no number: the row is then kept as it is.
  Wide most = {}, odd = {};
  each_vector(0, size, [&](int64_t i, int n) {
    const Wide v = vabs<double>(widen(p + i, n));
    most = v > most ? v : most;
    odd += v - v;  // NaN where v is NaN or infinite
  });
  const double peak = lane_max(most), bad = lane_sum(odd);
  const double scale = usable(peak) && bad == 0.0 ? peak : 1.0, by = 1.0 / scale;
  *out = scale;
  if (by < 1e300)
    each_vector(0, size, [&](int64_t i, int n) { narrow(q + i, widen(p + i, n) * by, n); });
  else  // of a denormal number
    each_vector(0, size, [&](int64_t i, int n) { narrow(q + i, widen(p + i, n) / scale, n); });
}

/// Rows of float64 as float32 with a float64 scale each.
inline void scale_rows(const double* from, int64_t rows, int64_t size, int64_t stride, float* out,
                       int64_t out_stride, double* scales, int threads) {
  in_parts(threads, rows, rows * size, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      scale_row(from + row * stride, size, out + row * out_stride, scales + row);
  });
}

/// Where one thread adds up what all rows of its steps have: arrays as in RowsCall, or null.
struct UnitSums {
  double *per_unit, *low, *zero;
};

/// Sums of gates, or counts of small slopes, over the rows that exist of steps first … last-1.
/// All gates at once: they lie side by side, and memory is what takes the time.
template <class U>
void unit_sums(const RowsCall& a, int64_t first, int64_t last, const UnitSums& own) {
  constexpr int kGates = 4;
  for (int64_t t = first; t < last; ++t) {
    Wide sum[kGates] = {};
    for (int64_t b = 0; b < a.batch; ++b) {
      if (a.lengths && t >= a.lengths[b]) continue;
      const U* const row = a.values.at<U>(t, b);
      if (own.per_unit)
        each_vector(0, a.size, [&](int64_t i, int n) {
          const U* const place = row + a.units.at(i);
          for (int g = 0; g < a.gates; ++g) {
            const Wide x = widen(place + g * a.units.lanes, n);
            double* const total = own.per_unit + g * a.size + i;
            store_some(total, load_some(total, n) + x, n);
            sum[g] += x;
          }
        });
      if (own.low)
        each_vector(0, a.size, [&](int64_t i, int n) {
          const Wide x = widen(row + a.units.at(i), n);
          Wide slope = 1.0 - x * x;
          if (a.relu) slope = x > 0.0 ? splat(1.0) : (x == x ? Wide{} : x);
          const Wide one = splat(1.0), none = {};
          store_some(own.low + i, load_some(own.low + i, n) + (slope < a.level ? one : none), n);
          store_some(own.zero + i, load_some(own.zero + i, n) + (slope == 0.0 ? one : none), n);
        });
    }
    if (a.per_step)
      for (int g = 0; g < a.gates; ++g) a.per_step[g * a.steps + t] = lane_sum(sum[g]);
  }
}

/// Threads split the steps; each has its own sums of the units. All of those start at zero: one
/// thread may have to do the work of several.
template <class U>
bool unit_sums(const RowsCall& a) {
  Plan plan;
  plan.members = threads_for(a.threads, a.steps * a.batch * a.size > 100000);
  return with_memory([&](Arena& arena) {
    const int64_t sums = a.gates * a.size;
    const auto copies = [&](double* place, int64_t n) {
      return place ? arena.take<double>(n * plan.members) : nullptr;
    };
    const UnitSums all = {copies(a.per_unit, sums), copies(a.low, a.size), copies(a.zero, a.size)};
    if (arena.base == nullptr) return;
    zero(all.per_unit, sums * plan.members);
    zero(all.low, a.size * plan.members);
    zero(all.zero, a.size * plan.members);
    const auto part = [](double* copy, int64_t n, int member) {
      return copy ? copy + n * member : nullptr;
    };
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      const UnitSums own = {part(all.per_unit, sums, member.rank),
                            part(all.low, a.size, member.rank),
                            part(all.zero, a.size, member.rank)};
      unit_sums<U>(a, member.begin(a.steps), member.end(a.steps), own);
    });
    const auto add_up = [&](double* place, const double* copy, int64_t n) {
      for (int64_t i = 0; place && i < n; ++i) {
        place[i] = 0.0;
        for (int m = 0; m < plan.members; ++m) place[i] += copy[m * n + i];
      }
    };
    add_up(a.per_unit, all.per_unit, sums);
    add_up(a.low, all.low, a.size);
    add_up(a.zero, all.zero, a.size);
  });
}

/// visit(first, lanes) for a row of n numbers of U.
template <class U, class F>
GRADREACH_INLINE void each_lane(int64_t n, F&& visit) {
  constexpr int L = kLanes<U>;
  for (int64_t i = 0; i < n; i += L) visit(i, static_cast<int>(n - i < L ? n - i : L));
}

template <class U>
void lstm_gates(const GatesCall& a, int64_t b) {
  const int64_t size = a.hidden_size;
  U* const pre = static_cast<U*>(a.from_input);
  U* const cells = static_cast<U*>(a.cells);
  for (int64_t t = 0; t < a.steps; ++t) {
    U* const row = pre + (t * a.batch + b) * 4 * size;
    each_lane<U>(size, [&](int64_t j, int n) {
      for (int g = 0; g < 4; ++g) {
        U* const place = row + g * size + j;
        const Vec<U> x = load_some(place, n);
        store_some(place, g == 2 ? vtanh(x) : vsigmoid<U>(x), n);
      }
    });
    if (!cells) continue;
    U* const after = cells + ((t + 1) * a.batch + b) * size;
    double* const carried = a.carried + b * size;
    each_vector(0, size, [&](int64_t j, int n) {
      const Wide gain = widen(row + j, n) * widen(row + 2 * size + j, n);
      const Wide cell = widen(row + size + j, n) * widen(carried + j, n) + gain;
      store_some(carried + j, cell, n);
      narrow(after + j, cell, n);
    });
  }
}

template <class U>
void gru_gates(const GatesCall& a, int64_t first, int64_t last) {
  const int64_t size = a.hidden_size;
  for (int64_t at = first; at < last; ++at) {
    U* const row = static_cast<U*>(a.from_input) + at * 3 * size;
    const U* const state = static_cast<const U*>(a.from_state) + at * 3 * size;
    U* const q = static_cast<U*>(a.q) + at * size;
    each_lane<U>(size, [&](int64_t j, int n) {
      const Vec<U> reset = vsigmoid<U>(load_some(row + j, n) + load_some(state + j, n));
      const Vec<U> keep =
          vsigmoid<U>(load_some(row + size + j, n) + load_some(state + size + j, n));
      const Vec<U> recurrent = load_some(state + 2 * size + j, n);
      store_some(row + j, reset, n);
      store_some(row + size + j, keep, n);
      store_some(row + 2 * size + j, vtanh(load_some(row + 2 * size + j, n) + reset * recurrent),
                 n);
      store_some(q + j, recurrent, n);
    });
  }
}

template <class U>
void gates(const GatesCall& a) {
  const int64_t elements = a.steps * a.batch * a.hidden_size;
  if (a.kind == 2) {
    in_parts(a.threads, a.batch, elements, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) lstm_gates<U>(a, b);
    });
  } else {
    in_parts(a.threads, a.steps * a.batch, elements,
             [&](int64_t first, int64_t last) { gru_gates<U>(a, first, last); });
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
