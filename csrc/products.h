// The terms c_k = sum_b left_kb right_kb^T of a weight's gradient in float32: their sum, and how
// far each points along a direction known beforehand.
//
// A term is formed in registers, tile by tile. Each step's factors are brought to the size of 1
// first; a term has the rounding of B products, the sum that of one chunk of steps, and chunks are
// added up in float64. That is the rounding that the user's own float32 backward has.
#pragma once

#include "run_layer.h"
#include "scan_calls.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

constexpr int kProductRows = 8;  // of a tile, laid out next to each other
// (step, sequence) pairs and groups of rows laid out at once: both factors stay in a core's own
// cache, a group and a panel in its first one.
constexpr int64_t kProductChunk = 384, kProductGroups = 24;

/// For c[m] = sum_k left[k][m] panel[k]: sum[m] (=, +=) factor c[m]; dot += c direction.
template <int ROWS, int NV>
void product_tile(const float* left, int64_t depth, const float* __restrict panel, float* sum,
                  float factor, const float* direction, int64_t stride, int tail, float* dot,
                  bool fresh) {
  constexpr int L = kLanes<float>;
  using V = Vec<float>;
  V term[ROWS][NV] = {};
  for (int64_t k = 0; k < depth; ++k) {
    V b[NV];
    for (int v = 0; v < NV; ++v) b[v] = load(panel + v * L);
    for (int m = 0; m < ROWS; ++m) {
      const V x = splat(left[m]);
      for (int v = 0; v < NV; ++v) term[m][v] += x * b[v];
    }
    left += kProductRows;
    panel += NV * L;
  }
  const V by = splat(factor);
  V even = {}, odd = {};
  for (int m = 0; m < ROWS; ++m) {
    for (int v = 0; v < NV; ++v) {
      float* const place = sum + (m * NV + v) * L;
      store(place, fresh ? by * term[m][v] : load(place) + by * term[m][v]);
      if (!direction) continue;
      const V to = load_some(direction + m * stride + v * L, v + 1 < NV ? L : tail);
      (m & 1 ? odd : even) += term[m][v] * to;
    }
  }
  if (direction) store(dot, load(dot) + even + odd);
}

/// One thread's part of the sum: its own rows.
class Products {
 public:
  static constexpr int L = kLanes<float>;

  Products(const ProductsCall& a, const Member& member)
      : a_(a),
        member_(member),
        vectors_((a.columns + L - 1) / L),
        groups_((a.rows + kProductRows - 1) / kProductRows),
        tiles_(vectors_, kWideTile) {
    const int64_t n = kProductChunk / (a.batch > 0 ? a.batch : 1);
    chunk_ = n < 1 ? 1 : n < a.steps ? n : a.steps;
  }

  void take_shared(Arena& arena, int members) {
    members_ = members;
    delta_ = arena.take<double>(a_.steps);
    value_ = arena.take<float>(a_.steps);
    panels_ = arena.take<float>(chunk_ * a_.batch * vectors_ * L);
    parts_ = arena.take<double>(a_.steps * members);
  }
  void take_own(Arena& arena) {
    dots_ = arena.take<float>(chunk_ * L);
    shares_ = arena.take<double>(chunk_);
    factors_ = arena.take<float>(chunk_);
    lefts_ = arena.take<float>(chunk_ * a_.batch * kProductGroups * kProductRows);
  }

  void run() {
    for (int64_t t = member_.begin(a_.steps); t < member_.end(a_.steps); ++t) find_peaks(t);
    member_.sync();
    for (int64_t first = 0; first < a_.steps; first += chunk_) {
      const int64_t last = first + chunk_ < a_.steps ? first + chunk_ : a_.steps;
      lay_right(first, last);
      member_.sync();
      add(first, last);
      member_.sync();
    }
    if (!a_.direction) return;
    for (int64_t t = member_.begin(a_.steps); t < member_.end(a_.steps); ++t) {
      double sum = 0.0;
      for (int m = 0; m < member_.size; ++m) sum += parts_[t * members_ + m];
      a_.along[t] += sum * delta_[t] / static_cast<double>(value_[t]);
    }
  }

 private:
  const ProductsCall& a_;
  const Member member_;
  const int64_t vectors_, groups_;
  const Split tiles_;
  int64_t chunk_;
  int members_ = 1;
  double* delta_;  // (T): the size of a step's gradient
  float* value_;   // (T): what the other factor is multiplied with, a power of two
  float *panels_, *lefts_, *dots_, *factors_;
  double *parts_, *shares_;

  void find_peaks(int64_t t) const {
    const Series &delta = a_.delta_right ? a_.right : a_.left,
                 &value = a_.delta_right ? a_.left : a_.right;
    const int64_t width = a_.delta_right ? a_.columns : a_.rows;
    const int64_t other = a_.delta_right ? a_.rows : a_.columns;
    double d = 0.0;
    float v = 0.0f;
    for (int64_t b = 0; b < a_.batch; ++b) {
      double own = __builtin_fabs(a_.scales[t * a_.batch + b]);
      // A row of zeros has the scale 1, which is nobody's size.
      if (own == 1.0 && peak_of(delta.at<float>(t, b), width) == 0.0) own = 0.0;
      d = own > d ? own : d;
      const float size = static_cast<float>(peak_of(value.at<float>(t, b), other));
      v = size > v ? size : v;
    }
    delta_[t] = usable(d) ? d : 1.0;
    // Numbers of any usual size stay as they are; a power of two changes no digit.
    value_[t] = 1.0f;
    if (v > 0.0f && v < __builtin_inff() && !(v > 1e-6f && v < 1e6f))
      value_[t] = v > 1.0f ? 0x1p-100f : 0x1p100f;
  }

  float factor(int64_t t, int64_t b) const {
    return static_cast<float>(a_.scales[t * a_.batch + b] / delta_[t]);
  }

  /// Own tiles of the right factor, k-major.
  void lay_right(int64_t first, int64_t last) const {
    const int64_t rows = (last - first) * a_.batch;
    for (int64_t i = member_.begin(tiles_.parts); i < member_.end(tiles_.parts); ++i) {
      const int64_t from = tiles_.begin(i), to = tiles_.begin(i + 1);
      float* out = panels_ + from * L * rows;
      for (int64_t t = first; t < last; ++t)
        for (int64_t b = 0; b < a_.batch; ++b) {
          const float by = a_.delta_right ? factor(t, b) : value_[t];
          const float* const place = a_.right.at<float>(t, b);
          for (int64_t u = from; u < to; ++u, out += L) {
            const int64_t n = a_.columns - u * L;
            store(out, load_some(place + u * L, static_cast<int>(n < L ? n : L)) * by);
          }
        }
    }
  }

  /// Some groups of rows of the left factor: a group's rows next to each other, k-major.
  void lay_left(int64_t first, int64_t last, int64_t from, int64_t to) const {
    const int64_t rows = (last - first) * a_.batch;
    constexpr int kStep = L < kProductRows ? L : kProductRows;
    for (int64_t t = first; t < last; ++t)
      for (int64_t b = 0; b < a_.batch; ++b) {
        const float by = a_.delta_right ? value_[t] : factor(t, b);
        const float* const place = a_.left.at<float>(t, b);
        float* out = lefts_ + ((t - first) * a_.batch + b) * kProductRows;
        for (int64_t g = from; g < to; ++g, out += rows * kProductRows) {
          const int64_t j = g * kProductRows, n = a_.rows - j;
          if (n >= kProductRows) {
            typedef float Some __attribute__((vector_size(kStep * sizeof(float))));
            for (int v = 0; v < kProductRows; v += kStep) {
              Some x;
              std::memcpy(&x, place + j + v, sizeof x);
              x *= by;
              std::memcpy(out + v, &x, sizeof x);
            }
          } else {
            for (int64_t v = 0; v < kProductRows; ++v) out[v] = v < n ? place[j + v] * by : 0.0f;
          }
        }
      }
  }

  void add(int64_t first, int64_t last) const {
    double most = 0.0;
    for (int64_t t = first; t < last; ++t) {
      const double size = delta_[t] / static_cast<double>(value_[t]);
      most = size > most ? size : most;
      shares_[t - first] = 0.0;
    }
    for (int64_t t = first; t < last; ++t)
      factors_[t - first] = static_cast<float>(delta_[t] / static_cast<double>(value_[t]) / most);
    const int64_t end = member_.end(groups_);
    for (int64_t from = member_.begin(groups_); from < end; from += kProductGroups) {
      const int64_t to = from + kProductGroups < end ? from + kProductGroups : end;
      lay_left(first, last, from, to);
      add_groups(first, last, from, to, most);
    }
    for (int64_t t = first; a_.direction && t < last; ++t)
      parts_[t * members_ + member_.rank] = shares_[t - first];
  }

  void add_groups(int64_t first, int64_t last, int64_t first_group, int64_t last_group,
                  double size) const {
    const int64_t rows = (last - first) * a_.batch;
    for (int64_t i = 0; i < tiles_.parts; ++i) {
      const int64_t from = tiles_.begin(i), to = tiles_.begin(i + 1),
                    left = a_.columns - (to - 1) * L;
      const float* const panel = panels_ + from * L * rows;
      const int tail = static_cast<int>(left < L ? left : L);
      std::memset(dots_, 0, static_cast<size_t>((last - first) * L) * sizeof(float));
      for (int64_t g = first_group; g < last_group; ++g) {
        const int64_t there = a_.rows - g * kProductRows;
        const int count = static_cast<int>(there < kProductRows ? there : kProductRows);
        const int64_t at = g * kProductRows * a_.columns + from * L;
        const float* const own = lefts_ + (g - first_group) * rows * kProductRows;
        switch (to - from) {
          case 1:
            add_tiles<1>(first, last, count, own, panel, at, tail, size);
            break;
          case 2:
            add_tiles<2>(first, last, count, own, panel, at, tail, size);
            break;
          default:
            if constexpr (kWideTile >= 3)
              add_tiles<3>(first, last, count, own, panel, at, tail, size);
        }
      }
      for (int64_t t = 0; a_.direction && t < last - first; ++t) {
        double sum = 0.0;
        for (int v = 0; v < L; ++v) sum += static_cast<double>(dots_[t * L + v]);
        shares_[t] += sum;
      }
    }
  }

  /// One tile of the weight over all steps of the chunk.
  template <int NV>
  void add_tiles(int64_t first, int64_t last, int count, const float* lefts, const float* panel,
                 int64_t at, int tail, double size) const {
    constexpr int kMost = kMaxRows[NV] < kProductRows ? kMaxRows[NV] : kProductRows;
    float sum[kProductRows * NV * L];
    int done = 0;
    // Whole tiles first, then row by row: edges are rare.
    for (; done + kMost <= count; done += kMost)
      add_steps<kMost, NV>(first, last, lefts + done, panel, at + done * a_.columns, tail,
                           sum + done * NV * L);
    for (; done < count; ++done)
      add_steps<1, NV>(first, last, lefts + done, panel, at + done * a_.columns, tail,
                       sum + done * NV * L);
    for (int m = 0; m < count; ++m) {
      double* const total = a_.total + at + m * a_.columns;
      const int64_t n = (NV - 1) * L + tail;
      each_vector(0, n, [&](int64_t j, int lanes) {
        const Wide more = widen(sum + m * NV * L + j, lanes) * size;
        store_some(total + j, load_some(total + j, lanes) + more, lanes);
      });
    }
  }

  template <int ROWS, int NV>
  void add_steps(int64_t first, int64_t last, const float* lefts, const float* panel, int64_t at,
                 int tail, float* sum) const {
    const float* const direction = a_.direction ? a_.direction + at : nullptr;
    for (int64_t t = 0; t < last - first; ++t)
      product_tile<ROWS, NV>(lefts + t * a_.batch * kProductRows, a_.batch,
                             panel + t * a_.batch * NV * L, sum, factors_[t], direction, a_.columns,
                             tail, dots_ + t * L, t == 0);
  }
};

/// The same where the left factor has one or two columns: nothing is laid out, each row of the
/// gradient is read once.
class NarrowProducts {
 public:
  static constexpr int L = kLanes<float>;
  static constexpr int64_t kMost = 2;

  NarrowProducts(const ProductsCall& a, Arena& arena) : a_(a), width_((a.columns + L - 1) / L * L) {
    term_ = arena.take<float>(a.rows * width_);
    total_ = arena.take<double>(a.rows * width_);
  }

  const double* total() const { return total_; }
  int64_t width() const { return width_; }

  void run(int64_t first, int64_t last) {
    std::memset(total_, 0, static_cast<size_t>(a_.rows * width_) * sizeof(double));
    for (int64_t t = first; t < last; ++t) step(t);
  }

 private:
  const ProductsCall& a_;
  const int64_t width_;
  float* term_;
  double* total_;

  void step(int64_t t) const {
    double size = 0.0;
    for (int64_t b = 0; b < a_.batch; ++b) {
      double most = 0.0;
      for (int64_t i = 0; i < a_.rows; ++i) {
        const double v = __builtin_fabs(factor(t, b, i));
        most = v > most ? v : most;
      }
      size = most > size ? most : size;
    }
    if (!usable(size)) size = 1.0;
    std::memset(term_, 0, static_cast<size_t>(a_.rows * width_) * sizeof(float));
    for (int64_t b = 0; b < a_.batch; ++b) {
      const float* const right = a_.right.at<float>(t, b);
      for (int64_t i = 0; i < a_.rows; ++i) {
        float* const term = term_ + i * width_;
        const Vec<float> by = splat(static_cast<float>(factor(t, b, i) / size));
        int64_t j = 0;
        for (; j + L <= a_.columns; j += L) store(term + j, load(term + j) + by * load(right + j));
        if (j < a_.columns)
          store(term + j,
                load(term + j) + by * load_some(right + j, static_cast<int>(a_.columns - j)));
      }
    }
    for (int64_t i = 0; i < a_.rows; ++i) {
      const float* const term = term_ + i * width_;
      double* const total = total_ + i * width_;
      const float* const direction = a_.direction ? a_.direction + i * a_.columns : nullptr;
      Wide dot = {};
      each_vector(0, a_.columns, [&](int64_t j, int n) {
        const Wide c = widen(term + j, n);
        store_some(total + j, load_some(total + j, n) + c * size, n);
        if (direction) dot += c * widen(direction + j, n);
      });
      if (direction) a_.along[t] += lane_sum(dot) * size;
    }
  }

  /// What a row of the gradient is multiplied with.
  double factor(int64_t t, int64_t b, int64_t i) const {
    const float* const left = a_.left.at<float>(t, b);
    const float* const right = a_.right.at<float>(t, b);
    const double scale = a_.scales[t * a_.batch + b];
    // A row of zeros has the scale 1, which is nobody's size.
    if (scale == 1.0 && peak_of(right, a_.columns) == 0.0) return 0.0;
    return static_cast<double>(left[i]) * scale;
  }
};

inline bool narrow_products(const ProductsCall& a, const Plan& plan) {
  return with_memory([&](Arena& arena) {
    Arena own[kMostThreads];
    for (int m = 0; m < plan.members; ++m) {
      own[m] = arena;
      NarrowProducts(a, arena);
    }
    if (arena.base == nullptr) return;
    int done = 0;  // of how many threads there are sums
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      Arena room = own[member.rank];
      NarrowProducts work(a, room);
      work.run(member.begin(a.steps), member.end(a.steps));
      if (member.rank == 0) done = member.size;
    });
    for (int m = 0; m < done; ++m) {
      const NarrowProducts work(a, own[m]);
      for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t j = 0; j < a.columns; ++j)
          a.total[i * a.columns + j] += work.total()[i * work.width() + j];
    }
  });
}

inline bool products(const ProductsCall& a) {
  if (a.rows == 0 || a.steps == 0 || a.columns == 0 || a.batch == 0) return true;
  const double flops =
      2.0 * static_cast<double>(a.steps * a.batch) * static_cast<double>(a.rows * a.columns);
  Plan plan;
  plan.members = threads_for(a.threads, flops > 1e6);
  // The scales belong to the wide factor there.
  if (a.rows <= NarrowProducts::kMost && a.delta_right) return narrow_products(a, plan);
  return with_memory([&](Arena& arena) {
    Products shared(a, Member{});
    const auto lay = [&](Products& work, Arena& room, int own) {
      work.take_shared(room, plan.members);
      for (int m = 0; m < own; ++m) work.take_own(room);
    };
    const Arena start = arena;
    lay(shared, arena, plan.members);
    if (arena.base == nullptr) return;
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      Products work(a, member);
      Arena own = start;
      lay(work, own, member.rank + 1);
      work.run();
    });
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
