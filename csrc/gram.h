// The norm of each term c_k = sum_b delta_kb value_kb^T of a weight's gradient, without forming it:
// its square is the sum over pairs of rows of (delta . delta') (value . value').
//
// Products of two float32 numbers are exact in float64, where they are summed. Both weights of a
// layer share the products of the deltas.
#pragma once

#include "run_layer.h"
#include "scan_calls.h"
#include "wide.h"

namespace gradreach {
namespace GRADREACH_ISA {

constexpr int kPair = 4;                // rows of a block of pairs
constexpr int64_t kGramColumns = 256;   // columns widened at once: 64 kB of 32 rows
constexpr double kCancelled = 1e-3;     // of the sum of magnitudes: below it digits are lost
constexpr double kLeftToOthers = -1.0;  // for a norm: of a step that has to be formed

/// The sums of the lanes of kPair * kPair vectors.
GRADREACH_INLINE void lane_sums(const Wide (&sum)[kPair][kPair], double* out) {
#if defined(__AVX512F__)
  const auto pairs = [](Wide a, Wide b) {  // a b a b …, two lanes of each added
    return __builtin_shuffle(a, b, Mask<double>{0, 8, 2, 10, 4, 12, 6, 14}) +
           __builtin_shuffle(a, b, Mask<double>{1, 9, 3, 11, 5, 13, 7, 15});
  };
  for (int m = 0; m < kPair; m += 2) {
    Wide four[2];
    for (int i = 0; i < 2; ++i) {
      const Wide a = pairs(sum[m + i][0], sum[m + i][1]), b = pairs(sum[m + i][2], sum[m + i][3]);
      four[i] = __builtin_shuffle(a, b, Mask<double>{0, 1, 8, 9, 4, 5, 12, 13}) +
                __builtin_shuffle(a, b, Mask<double>{2, 3, 10, 11, 6, 7, 14, 15});
    }
    const Wide all = __builtin_shuffle(four[0], four[1], Mask<double>{0, 1, 2, 3, 8, 9, 10, 11}) +
                     __builtin_shuffle(four[0], four[1], Mask<double>{4, 5, 6, 7, 12, 13, 14, 15});
    double* const place = out + m * kPair;
    store(place, load(place) + all);
  }
#else
  for (int m = 0; m < kPair; ++m)
    for (int n = 0; n < kPair; ++n) out[m * kPair + n] += lane_sum(sum[m][n]);
#endif
}

/// One thread's part: its own steps.
class Grams {
 public:
  Grams(const GramCall& a, Arena& arena)
      : a_(a), blocks_((a.batch + kPair - 1) / kPair), size_(blocks_ * (blocks_ + 1) / 2 * 16) {
    rows_ = arena.take<double>(blocks_ * kPair * kGramColumns);
    for (double*& gram : of_delta_) gram = arena.take<double>(size_);
    of_value_ = arena.take<double>(size_);
    shared_ = arena.take<double>(size_);
  }

  void run(int64_t first, int64_t last) {
    if (rows_ == nullptr) return;
    zero(rows_, blocks_ * kPair * kGramColumns);  // rows beyond the batch stay zeros
    for (int64_t t = first; t < last; ++t) step(t);
  }

 private:
  const GramCall& a_;
  const int64_t blocks_, size_;
  double *rows_, *of_delta_[2], *of_value_, *shared_;

  double peak(int64_t t) const {
    double most = 0.0;
    for (int p = 0; p < a_.parts; ++p)
      for (int64_t b = 0; b < a_.batch; ++b) {
        const GramPart& part = a_.part[p];
        double own = __builtin_fabs(part.scales[t * a_.batch + b]);
        // A row of zeros has the scale 1, which is nobody's size.
        if (own == 1.0 && peak_of(part.delta.at<float>(t, b), part.width) == 0.0) own = 0.0;
        most = own > most ? own : most;
      }
    return usable(most) ? most : 1.0;
  }

  void step(int64_t t) {
    const double size = peak(t);
    zero(shared_, size_);
    for (int which = 0; which < 2; ++which) zero(of_delta_[which], size_);
    for (int p = 0; p < a_.parts; ++p) {
      const GramPart& part = a_.part[p];
      if (part.sums) zero(part.sums + t * part.width, part.width);
      double* const into = part.of[0] && part.of[1] ? shared_ : of_delta_[part.of[0] ? 0 : 1];
      add(part.delta, part.width, t, part.scales + t * a_.batch, size,
          part.sums ? part.sums + t * part.width : nullptr, into);
    }
    for (int which = 0; which < 2; ++which) {
      if (!a_.norms[which]) continue;
      zero(of_value_, size_);
      add(a_.value[which], a_.columns[which], t, nullptr, 1.0, nullptr, of_value_);
      a_.norms[which][t] = norm(of_delta_[which]) * size;
    }
  }

  /// Adds the products of a series' rows to `gram`, some columns at a time.
  void add(const Series& series, int64_t width, int64_t t, const double* scales, double size,
           double* sums, double* gram) const {
    for (int64_t first = 0; first < width; first += kGramColumns) {
      const int64_t n = width - first < kGramColumns ? width - first : kGramColumns;
      const int64_t padded = (n + kWide - 1) / kWide * kWide;
      for (int64_t b = 0; b < a_.batch; ++b) {
        const float* const from = series.at<float>(t, b) + first;
        double* const to = rows_ + b * kGramColumns;
        const double scale = scales ? scales[b] : 1.0, by = scale / size;
        each_vector(0, n, [&](int64_t j, int lanes) {
          const Wide x = widen(from + j, lanes);
          if (sums) {
            double* const sum = sums + first + j;
            store_some(sum, load_some(sum, lanes) + x * scale, lanes);
          }
          // Beside a denormal peak the quotient is no number: divide the product then.
          store(to + j, !scales ? x : by < 1e300 ? x * by : x * scale / size);
        });
      }
      multiply(padded, gram);
    }
  }

  void multiply(int64_t n, double* gram) const {
    for (int64_t i = 0; i < blocks_; ++i)
      for (int64_t j = i; j < blocks_; ++j, gram += kPair * kPair) {
        const double* const left = rows_ + i * kPair * kGramColumns;
        const double* const right = rows_ + j * kPair * kGramColumns;
        Wide sum[kPair][kPair] = {};
        for (int64_t k = 0; k < n; k += kWide) {
          Wide b[kPair];
          for (int m = 0; m < kPair; ++m) b[m] = load(right + m * kGramColumns + k);
          for (int m = 0; m < kPair; ++m) {
            const Wide x = load(left + m * kGramColumns + k);
            for (int q = 0; q < kPair; ++q) sum[m][q] += x * b[q];
          }
        }
        lane_sums(sum, gram);
      }
  }

  /// The norm of the term, but for the size of the deltas.
  double norm(const double* own) const {
    Wide total = {}, size = {};
    int64_t at = 0;
    for (int64_t i = 0; i < blocks_; ++i)
      for (int64_t j = i; j < blocks_; ++j)
        for (int64_t end = at + kPair * kPair; at < end; at += kWide) {
          const Wide delta = load(own + at) + load(shared_ + at);
          const Wide pairs = delta * load(of_value_ + at) * (i == j ? 1.0 : 2.0);
          total += pairs;
          size += vabs<double>(pairs);
        }
    const double squares = lane_sum(total), sizes = lane_sum(size);
    if (sizes == 0.0) return 0.0;
    // Where rows of the batch cancel, and where something is no number, the matrix is formed.
    return squares > kCancelled * sizes && sizes < 1e300 && sizes > 1e-280 ? __builtin_sqrt(squares)
                                                                           : -__builtin_inf();
  }
};

inline bool gram_norms(const GramCall& a) {
  int64_t wide = a.columns[0] + a.columns[1];
  for (int p = 0; p < a.parts; ++p) wide += a.part[p].width;
  Plan plan;
  plan.members = threads_for(a.threads, a.steps * a.batch * wide > 100000);
  return with_memory([&](Arena& arena) {
    Arena own[kMostThreads];
    for (int m = 0; m < plan.members; ++m) {
      own[m] = arena;
      Grams(a, arena);
    }
    if (arena.base == nullptr) return;
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      Grams work(a, own[member.rank]);
      work.run(member.begin(a.steps), member.end(a.steps));
    });
    for (int which = 0; which < 2; ++which)
      for (int64_t t = 0; a.norms[which] && t < a.steps; ++t)
        if (!(a.norms[which][t] >= 0.0)) a.norms[which][t] = kLeftToOthers;
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
