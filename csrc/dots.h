// Products with a matrix as it stands in torch: out = left right^T, row by row of `right`.
//
// For a short sequence, where packing the matrix would take more time or memory than all else:
// vectors lie along k, and the lanes of each sum are added up at the end.
#pragma once

#include "gemm.h"

namespace gradreach {
namespace GRADREACH_ISA {

// Of a tile: 24 sums in 32 registers, beside them the rows of the left operand and one column.
#if defined(__AVX512F__)
constexpr int kDotRows = 4, kDotColumns = 6;
#else
constexpr int kDotRows = 2, kDotColumns = 4;
#endif

/// A tile of out[m][at + j] (=, +=, bias[j] +) sum_k left[m][k] right[j][k]. Beyond the columns
/// that there are the last one stands once more, and is not stored.
template <class T, int ROWS>
void dot_tile(const T* const* left, int64_t depth, const T* right, int columns, T* const* out,
              int64_t at, Into into, const T* bias) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>;
  V sum[ROWS][kDotColumns];
  GRADREACH_UNROLL
  for (int m = 0; m < ROWS; ++m) {
    GRADREACH_UNROLL
    for (int j = 0; j < kDotColumns; ++j) sum[m][j] = V{};
  }
  const T *row[ROWS], *column[kDotColumns];
  GRADREACH_UNROLL
  for (int m = 0; m < ROWS; ++m) row[m] = left[m];
  GRADREACH_UNROLL
  for (int j = 0; j < kDotColumns; ++j) column[j] = right + (j < columns ? j : columns - 1) * depth;
  const auto multiply = [&](int64_t k, auto&& take) GRADREACH_INLINE_LAMBDA {
    V a[ROWS];  // each column's vector is used up at once: there are registers for no more
    GRADREACH_UNROLL
    for (int m = 0; m < ROWS; ++m) a[m] = take(row[m] + k);
    GRADREACH_UNROLL
    for (int j = 0; j < kDotColumns; ++j) {
      const V b = take(column[j] + k);
      GRADREACH_UNROLL
      for (int m = 0; m < ROWS; ++m) sum[m][j] += a[m] * b;
    }
  };
  int64_t k = 0;
  for (; k + L <= depth; k += L) multiply(k, [](const T* p) { return load(p); });
  const int over = static_cast<int>(depth - k);
  if (over > 0) multiply(k, [=](const T* p) { return load_part(p, over); });
  GRADREACH_UNROLL
  for (int m = 0; m < ROWS; ++m) {
    T* const place = out[m] + at;
    GRADREACH_UNROLL
    for (int j = 0; j < kDotColumns; ++j) {
      if (j >= columns) continue;
      const T all = lane_sum(sum[m][j]);
      place[j] = all + (into == Into::kAdd ? place[j] : into == Into::kBias ? bias[j] : T(0));
    }
  }
}

/// out[m][at + j] (=, +=, bias[j] +) sum_k left[m][k] right[j][k] for `columns` rows of right.
template <class T>
void dot_product(int64_t columns, int64_t rows, const T* const* left, int64_t depth, const T* right,
                 T* const* out, int64_t at, Into into, const T* bias = nullptr) {
  const Split split(rows, kDotRows);
  for (int64_t j = 0; j < columns; j += kDotColumns) {
    const int64_t there = columns - j < kDotColumns ? columns - j : kDotColumns;
    const int count = static_cast<int>(there);
    const T* const first = right + j * depth;
    const T* const start = bias ? bias + j : nullptr;
    for (int64_t i = 0; i < split.parts; ++i) {
      const int64_t m = split.begin(i);
      switch (split.begin(i + 1) - m) {
#define GRADREACH_ROWS(N)                                                          \
  case N:                                                                          \
    if constexpr (N <= kDotRows)                                                   \
      dot_tile<T, N>(left + m, depth, first, count, out + m, at + j, into, start); \
    break;
        GRADREACH_ROWS(1)
        GRADREACH_ROWS(2)
        GRADREACH_ROWS(3)
        GRADREACH_ROWS(4)
#undef GRADREACH_ROWS
      }
    }
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
