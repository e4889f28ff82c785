// A weight's gradient as a sum over steps: the sum, the norm of each term, and its share.
//
// Each term c_k is formed in registers, tile by tile: its squares and its part of the sum are taken
// there, so that the norms cost next to nothing and lose nothing where rows of a batch cancel.
#pragma once

#include "run_layer.h"
#include "scan_calls.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

constexpr int kTermRows = kVectorBytes == 64 ? 8 : 4;  // rows of the weight in a tile
// (step, sequence) pairs and groups of rows of the weight laid out at once: both factors then stay
// in a core's own cache, and the sum itself is walked as seldom as that allows.
constexpr int64_t kTermChunk = 256, kTermGroups = 16;

/// total[m] += factor * c, squares += c * c, for c[m] = sum_k left[k][m] panel[k].
template <int ROWS, int NV>
void term_tile(const double* left, int64_t depth, const double* __restrict panel, double* total,
               int64_t stride, int tail, double factor, double* squares) {
  Wide sum[ROWS][NV] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Wide b[NV];
    for (int v = 0; v < NV; ++v) b[v] = load(panel + v * kWide);
    for (int m = 0; m < ROWS; ++m) {
      const Wide x = splat(left[m]);
      for (int v = 0; v < NV; ++v) sum[m][v] += x * b[v];
    }
    left += kTermRows;
    panel += NV * kWide;
  }
  Wide all = load(squares);
  const Wide by = splat(factor);
  for (int m = 0; m < ROWS; ++m) {
    double* const place = total + m * stride;
    for (int v = 0; v < NV; ++v) {
      const int n = v + 1 < NV ? kWide : tail;
      all += sum[m][v] * sum[m][v];
      store_some(place + v * kWide, load_some(place + v * kWide, n) + by * sum[m][v], n);
    }
  }
  store(squares, all);
}

template <int NV>
void term_tile(int rows, const double* left, int64_t depth, const double* panel, double* total,
               int64_t stride, int tail, double factor, double* squares) {
  constexpr int kMost = kMaxRows[NV] < kTermRows ? kMaxRows[NV] : kTermRows;
  int done = 0;
  // Whole tiles first, then row by row: edges are rare.
  for (; done + kMost <= rows; done += kMost)
    term_tile<kMost, NV>(left + done, depth, panel, total + done * stride, stride, tail, factor,
                         squares);
  for (; done < rows; ++done)
    term_tile<1, NV>(left + done, depth, panel, total + done * stride, stride, tail, factor,
                     squares);
}

/// The peaks of every step's two factors, so that products neither underflow nor overflow.
struct Peaks {
  double *delta, *value;  // (T)
};

/// One thread's part of the sum: its own rows of the weight.
template <class U>
class Terms {
 public:
  Terms(const TermsCall& a, const Member& member)
      : a_(a),
        member_(member),
        vectors_((a.columns + kWide - 1) / kWide),
        groups_((a.width + kTermRows - 1) / kTermRows),
        tiles_(vectors_, kWideTile) {
    const int64_t n = kTermChunk / (a.batch > 0 ? a.batch : 1);
    chunk_ = n < 1 ? 1 : n < a.steps ? n : a.steps;
  }

  void take_shared(Arena& arena) {
    peaks_.delta = arena.take<double>(a_.steps);
    peaks_.value = arena.take<double>(a_.steps);
    panels_ = arena.take<double>(chunk_ * a_.batch * vectors_ * kWide);
    parts_ = arena.take<double>(a_.steps * member_most_);
  }
  void take_own(Arena& arena) {
    squares_ = arena.take<double>(chunk_ * kWide);
    lefts_ = arena.take<double>(chunk_ * a_.batch * kTermGroups * kTermRows);
  }
  void of_members(int most) { member_most_ = most; }

  void run() {
    for (int64_t t = member_.begin(a_.steps); t < member_.end(a_.steps); ++t) find_peaks(t);
    member_.sync();
    for (int64_t first = 0; first < a_.steps; first += chunk_) {
      const int64_t last = first + chunk_ < a_.steps ? first + chunk_ : a_.steps;
      lay_values(first, last);
      member_.sync();
      add(first, last);
      member_.sync();
    }
    for (int64_t t = member_.begin(a_.steps); t < member_.end(a_.steps); ++t) {
      double squares = 0.0;
      for (int m = 0; m < member_.size; ++m) squares += parts_[t * member_most_ + m];
      a_.norms[t] = __builtin_sqrt(squares) * peaks_.delta[t] * peaks_.value[t];
    }
  }

 private:
  const TermsCall& a_;
  const Member member_;
  const int64_t vectors_, groups_;
  const Split tiles_;
  int64_t chunk_;
  int member_most_ = 1;
  Peaks peaks_;
  double *panels_, *lefts_, *parts_, *squares_;

  const U* delta(int64_t t, int64_t b) const { return a_.delta.at<U>(t, b); }
  const U* value(int64_t t, int64_t b) const { return a_.value.at<U>(t, b); }

  void find_peaks(int64_t t) const {
    double d = 0.0, v = 0.0;
    for (int64_t b = 0; b < a_.batch; ++b) {
      double own;
      if (a_.scales) {
        own = __builtin_fabs(a_.scales[t * a_.batch + b]);
        // A row of zeros has the scale 1, which is nobody's size.
        if (own == 1.0 && peak_of(delta(t, b), a_.width) == 0.0) own = 0.0;
      } else {
        own = peak_of(delta(t, b), a_.width);
      }
      d = own > d ? own : d;
      if (sizeof(U) == 8) {  // squares of any float32 are normal float64 numbers
        const double size = peak_of(value(t, b), a_.columns);
        v = size > v ? size : v;
      }
    }
    peaks_.delta[t] = usable(d) ? d : 1.0;
    peaks_.value[t] = usable(v) ? v : 1.0;
  }

  /// Own tiles of the values, k-major.
  void lay_values(int64_t first, int64_t last) const {
    const int64_t rows = (last - first) * a_.batch;
    for (int64_t i = member_.begin(tiles_.parts); i < member_.end(tiles_.parts); ++i) {
      const int64_t from = tiles_.begin(i), to = tiles_.begin(i + 1);
      double* out = panels_ + from * kWide * rows;
      for (int64_t t = first; t < last; ++t) {
        const double by = 1.0 / peaks_.value[t];
        // A denormal peak has no inverse: divide then.
        const bool divide = !(by < 1e300), plain = by == 1.0;
        for (int64_t b = 0; b < a_.batch; ++b)
          for (int64_t u = from; u < to; ++u, out += kWide) {
            const int64_t n = a_.columns - u * kWide;
            const Wide x = widen(value(t, b) + u * kWide, static_cast<int>(n < kWide ? n : kWide));
            store(out, plain ? x : divide ? x / peaks_.value[t] : x * by);
          }
      }
    }
  }

  /// Some groups of the deltas: a group's rows of the weight next to each other, k-major.
  void lay_deltas(int64_t first, int64_t last, int64_t from, int64_t to) const {
    const int64_t rows = (last - first) * a_.batch;
    for (int64_t t = first; t < last; ++t) {
      double* const sums = a_.sums ? a_.sums + t * a_.width : nullptr;
      for (int64_t b = 0; b < a_.batch; ++b) {
        const double scale = a_.scales ? a_.scales[t * a_.batch + b] : 1.0;
        const double peak = peaks_.delta[t], factor = scale / peak;
        const bool direct = factor < 1e300;  // below, beside a denormal peak, divide the product
        const U* const row = delta(t, b);
        const int64_t place = (t - first) * a_.batch + b;
        for (int64_t g = from; g < to; ++g) {
          const int64_t j = g * kTermRows, n = a_.width - j;
          double* const out = lefts_ + ((g - from) * rows + place) * kTermRows;
          for (int64_t v = 0; v < kTermRows; v += kWide) {
            if (v >= n) {
              store(out + v, Wide{});
              continue;
            }
            const int lanes = static_cast<int>(n - v < kWide ? n - v : kWide);
            const Wide x = widen(row + j + v, lanes);
            if (sums) {
              const Wide before = b == 0 ? Wide{} : load_some(sums + j + v, lanes);
              store_some(sums + j + v, before + x * scale, lanes);
            }
            store(out + v, a_.scales && direct ? x * factor : x * scale / peak);
          }
        }
      }
    }
  }

  void add(int64_t first, int64_t last) const {
    std::memset(squares_, 0, static_cast<size_t>((last - first) * kWide) * sizeof(double));
    const int64_t end = member_.end(groups_);
    for (int64_t from = member_.begin(groups_); from < end; from += kTermGroups) {
      const int64_t to = from + kTermGroups < end ? from + kTermGroups : end;
      lay_deltas(first, last, from, to);
      add_groups(first, last, from, to);
    }
    for (int64_t t = first; t < last; ++t)
      parts_[t * member_most_ + member_.rank] = lane_sum(load(squares_ + (t - first) * kWide));
  }

  void add_groups(int64_t first, int64_t last, int64_t first_group, int64_t last_group) const {
    const int64_t rows = (last - first) * a_.batch;
    for (int64_t i = 0; i < tiles_.parts; ++i) {
      const int64_t from = tiles_.begin(i), to = tiles_.begin(i + 1), width = (to - from) * kWide;
      const double* const panel = panels_ + from * kWide * rows;
      const int64_t left = a_.columns - (to - 1) * kWide;
      const int tail = static_cast<int>(left < kWide ? left : kWide);
      for (int64_t g = first_group; g < last_group; ++g) {
        const int64_t there = a_.width - g * kTermRows;
        const int count = static_cast<int>(there < kTermRows ? there : kTermRows);
        double* const total = a_.total + g * kTermRows * a_.columns + from * kWide;
        for (int64_t t = first; t < last; ++t) {
          const int64_t at = (t - first) * a_.batch;
          const double factor = peaks_.delta[t] * peaks_.value[t];
          const double* const deltas = lefts_ + ((g - first_group) * rows + at) * kTermRows;
          double* const squares = squares_ + (t - first) * kWide;
          switch (to - from) {
            case 1:
              term_tile<1>(count, deltas, a_.batch, panel + at * width, total, a_.columns, tail,
                           factor, squares);
              break;
            case 2:
              term_tile<2>(count, deltas, a_.batch, panel + at * width, total, a_.columns, tail,
                           factor, squares);
              break;
            default:
              if constexpr (kWideTile >= 3)
                term_tile<3>(count, deltas, a_.batch, panel + at * width, total, a_.columns, tail,
                             factor, squares);
          }
        }
      }
    }
  }
};

inline int terms_threads(const TermsCall& a) {
  const double flops =
      2.0 * static_cast<double>(a.steps * a.batch) * static_cast<double>(a.width * a.columns);
  return threads_for(a.threads, flops >= 1e6);
}

template <class U>
bool terms(const TermsCall& a) {
  if (a.width == 0 || a.steps == 0) return true;
  Plan plan;
  plan.members = terms_threads(a);
  return with_memory([&](Arena& arena) {
    Terms<U> shared(a, Member{});
    const auto lay = [&](Terms<U>& work, Arena& room, int own) {
      work.of_members(plan.members);
      work.take_shared(room);
      for (int m = 0; m < own; ++m) work.take_own(room);
    };
    const Arena start = arena;
    lay(shared, arena, plan.members);
    if (arena.base == nullptr) return;
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      Terms<U> work(a, member);
      Arena own = start;
      lay(work, own, member.rank + 1);
      work.run();
    });
  });
}

/// along[t] += <c_t, direction>, as sum_b (delta_tb direction) . value_tb.
template <class U>
bool terms_along(const TermsCall& a) {
  constexpr int L = kLanes<U>;
  constexpr int64_t kRows = 96;
  if (a.width == 0 || a.steps == 0 || a.columns == 0 || a.batch == 0) return true;
  const int64_t vectors = (a.columns + L - 1) / L;
  const Split tiles(vectors, kWideTile);
  const int64_t n = kRows / a.batch;
  const int64_t block = n < 1 ? 1 : n < a.steps ? n : a.steps;  // steps at once
  const int64_t blocks = (a.steps + block - 1) / block;
  Plan plan;
  plan.members = terms_threads(a);
  const int64_t wide = kWideTile * L;
  return with_memory([&](Arena& arena) {
    U* const panels = arena.take<U>(vectors * L * a.width);
    U* const outs = arena.take<U>(plan.members * kRows * wide);
    double* const dots = arena.take<double>(plan.members * kRows);
    if (arena.base == nullptr) return;
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      for (int64_t i = member.begin(tiles.parts); i < member.end(tiles.parts); ++i) {
        U* out = panels + tiles.begin(i) * L * a.width;
        for (int64_t k = 0; k < a.width; ++k)
          for (int64_t u = tiles.begin(i); u < tiles.begin(i + 1); ++u, out += L) {
            const int64_t left = a.columns - u * L;
            store(out, load_some(static_cast<const U*>(a.direction) + k * a.columns + u * L,
                                 static_cast<int>(left < L ? left : L)));
          }
      }
      member.sync();
      U* const room = outs + member.rank * kRows * wide;
      double* const dot = dots + member.rank * kRows;
      const U* lefts[kRows];
      U* places[kRows];
      const U* values[kRows];
      for (int64_t m = 0; m < kRows; ++m) places[m] = room + m * wide;
      // Steps in blocks; within a step of a large batch, rows in blocks.
      for (int64_t j = member.begin(blocks); j < member.end(blocks); ++j) {
        const int64_t first = j * block;
        const int64_t last = first + block < a.steps ? first + block : a.steps;
        const int64_t rows = (last - first) * a.batch;
        for (int64_t row = 0; row < rows; row += kRows) {
          const int64_t count = rows - row < kRows ? rows - row : kRows;
          for (int64_t m = 0; m < count; ++m) {
            const int64_t t = first + (row + m) / a.batch, b = (row + m) % a.batch;
            lefts[m] = a.delta.at<U>(t, b);
            values[m] = a.value.at<U>(t, b);
            dot[m] = 0.0;
          }
          for (int64_t i = 0; i < tiles.parts; ++i) {
            const int64_t from = tiles.begin(i), to = tiles.begin(i + 1);
            product(static_cast<int>(to - from), count, lefts, Walk{1, a.width, 0},
                    static_cast<const U*>(panels) + from * L * a.width, places, 0, L, Into::kStore);
            const int64_t there = a.columns - from * L, whole = (to - from) * L;
            for (int64_t m = 0; m < count; ++m) {
              Wide sum{};
              each_vector(0, there < whole ? there : whole, [&](int64_t at, int lanes) {
                sum += widen(places[m] + at, lanes) * widen(values[m] + from * L + at, lanes);
              });
              dot[m] += lane_sum(sum);
            }
          }
          for (int64_t m = 0; m < count; ++m) {
            const int64_t t = first + (row + m) / a.batch;
            const double scale = a.scales ? a.scales[first * a.batch + row + m] : 1.0;
            a.along[t] += dot[m] * scale;
          }
        }
      }
    });
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
