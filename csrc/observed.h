// What a backward sees on its way and tells when asked: norms, slopes, gates.
#pragma once

#include "share.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// One team member's observations. Nothing is done for what nobody asks for.
template <class T>
class Observed {
 public:
  static constexpr int L = Shape<T>::L;

  Observed(const Share<T>& share, Sums<T>& sums) : my_(share), sums_(sums) {}

  void take_shared(Arena& arena) {
    norms_ = my_.d.state_norms && my_.tiling.members > 1
                 ? arena.take<double>(my_.chunk * my_.tiling.members)
                 : nullptr;
    most_ = my_.d.slope_max ? arena.take<Int>(my_.width) : nullptr;
    few_ = my_.d.slope_low ? arena.take<Int>(my_.width) : nullptr;
    sums_.slope_max = my_.d.slope_max ? arena.take<double>(my_.width) : nullptr;
    sums_.slope_low = my_.d.slope_low ? arena.take<double>(my_.width) : nullptr;
    sums_.gates = my_.d.gate_sums ? arena.take<double>(my_.width * my_.s.gates.group) : nullptr;
  }

  void clear() {
    zero(most_, my_.width);
    zero(few_, my_.width);
    zero(sums_.slope_low, my_.width);
    zero(sums_.gates, my_.s.kept_gates);
  }

  /// Takes the norms of the step's dL/dh, or of a team's rows the sums of squares of own columns.
  /// In float64: so 1e-23 in float32 still counts.
  /// `row` is that of the step's first in its chunk.
  void measure_rows(const T* flow, int64_t t, int64_t alive, int64_t row) const {
    if (!my_.d.state_norms) return;
    const bool alone = my_.member.size == 1;
    double* const place = alone ? my_.d.state_norms + my_.time.index(t, my_.block.first)
                                : norms_ + my_.member.rank * my_.chunk + row;
    const int64_t from = alone ? 0 : my_.tiling.begin_of(my_.member.rank) * L;
    const int64_t to = alone ? my_.width : my_.tiling.begin_of(my_.member.rank + 1) * L;
    const auto square = [](const T* d) GRADREACH_INLINE_LAMBDA {
      const Wide wide = widen(d, kWide);
      return wide * wide;
    };
    int64_t r = 0;
    for (; r + 4 <= alive; r += 4) {  // so that sums do not wait for each other
      const T* const first = flow + r * my_.width;
      Wide a = {}, b = {}, c = {}, d = {};
      for (int64_t j = from; j < to; j += kWide) {
        a += square(first + j);
        b += square(first + my_.width + j);
        c += square(first + 2 * my_.width + j);
        d += square(first + 3 * my_.width + j);
      }
      place[r] = lane_sum(a);
      place[r + 1] = lane_sum(b);
      place[r + 2] = lane_sum(c);
      place[r + 3] = lane_sum(d);
    }
    for (; r < alive; ++r) {
      Wide a = {};
      for (int64_t j = from; j < to; j += kWide) a += square(flow + r * my_.width + j);
      place[r] = lane_sum(a);
    }
    for (r = 0; alone && r < alive; ++r) place[r] = __builtin_sqrt(place[r]);
  }

  // What is observed of a step is read once more when its gradients stand: unit by unit, so that
  // counts and sums over the rows stay in registers.

  /// Largest |slope(kept row, unit, lanes)| of the step's rows, and how many are below 0.05.
  template <class F>
  GRADREACH_INLINE void slopes(const T* const* rows, int64_t alive, int64_t unit, int units,
                               F&& slope) {
    if (!most_) return;
    for (int64_t u = unit; u < unit + units; ++u) {
      Int *const most_place = most_ + u * L, *const few_place = few_ ? few_ + u * L : nullptr;
      M most, few = {};
      std::memcpy(&most, most_place, sizeof most);
      const auto each = [&](int lanes) GRADREACH_INLINE_LAMBDA {
        GRADREACH_TWICE
        for (int64_t r = 0; r < alive; ++r) {
          const V size = vabs<T>(slope(rows[r], u, lanes));
          most = larger_bits<T>(most, (M)size);
          few = counted_below<T>(few, size, T(0.05));
        }
      };
      const int lanes = my_.s.lanes(u);
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
  /// The same of a gated cell, whose candidate is kept in that vector of four, and its gates.
  void gated(const T* const* rows, int64_t alive, int64_t unit, int units, int candidate) {
    slopes(rows, alive, unit, units, [=](const T* row, int64_t u, int) GRADREACH_INLINE_LAMBDA {
      const V value = load(row + (u * 4 + candidate) * L);
      return T(1) - value * value;
    });
    if (sums_.gates) add_gates(rows, alive, unit, units);
  }
  /// To be called by one member when all steps are done.
  void finish() {
    if (few_) keep_counts();
    for (int64_t i = 0; most_ && i < my_.width; ++i) {
      T most;
      std::memcpy(&most, most_ + i, sizeof most);
      sums_.slope_max[i] = static_cast<double>(most);
    }
  }

  /// A chunk of steps ends that has so many rows.
  void end_chunk(int64_t first, int64_t last, int64_t rows) {
    if (few_ && my_.member.rank == 0) {
      counted_ += rows;
      if (counted_ > int64_t{1} << 30) keep_counts();
    }
    if (norms_ && my_.member.size > 1) keep_norms(first, last);
  }

 private:
  using V = Vec<T>;
  using Int = typename Simd<T>::Int;
  using M = Mask<T>;

  const Share<T>& my_;
  Sums<T>& sums_;
  double* norms_ = nullptr;  // (members, rows of a chunk): sums of squares of own columns
  Int *most_ = nullptr, *few_ = nullptr;  // bits of slope_max; slope_low so far
  int64_t counted_ = 0;                   // rows that are counted in few_

  /// Adds the gates of the step's rows to their sums_. Up to kTogether rows are added in T before
  /// they meet the float64 sums: gates lie in [-1, 1], so that in float32 a sum of 32 is wrong by
  /// 31 · 2^-24 of the sum of magnitudes at most, 2e-6, and what is asked is a mean.
  void add_gates(const T* const* rows, int64_t alive, int64_t unit, int units) {
    constexpr int64_t kTogether = 32;
    const int group = my_.s.gates.group;
    for (int64_t from = 0; from < alive; from += kTogether) {
      const int64_t to = from + kTogether < alive ? from + kTogether : alive;
      for (int64_t v = unit * group; v < (unit + units) * group; ++v) {
        V sum = {};
        for (int64_t r = from; r < to; ++r) sum += load(rows[r] + v * L);
        double* const place = sums_.gates + v * L;
        for (int lane = 0; lane < L; ++lane) place[lane] += static_cast<double>(sum[lane]);
      }
    }
  }
  /// Adds the counts of few_ to their sums, before they could leave the range of Int.
  void keep_counts() {
    for (int64_t i = 0; i < my_.width; ++i) sums_.slope_low[i] += static_cast<double>(few_[i]);
    zero(few_, my_.width);
    counted_ = 0;
  }
  /// Adds the members' sums of squares up, each in rows of its own.
  void keep_norms(int64_t first, int64_t last) {
    my_.each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      double* const norms = my_.d.state_norms + my_.time.index(t, my_.block.first);
      for (int64_t r = my_.member.begin(alive); r < my_.member.end(alive); ++r) {
        double sum = norms_[row + r];
        for (int m = 1; m < my_.member.size; ++m) sum += norms_[m * my_.chunk + row + r];
        norms[r] = __builtin_sqrt(sum);
      }
    });
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
