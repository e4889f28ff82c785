// What a measurement of torch's own layers asks of the core: the float64 reverse scan, the terms of
// a weight's gradient, norms. Plain structs, as in table.h; no Python and no torch.
//
// Inputs are in the user's element type ("U": float or double), results and all sums in float64.
#pragma once

#include <cstdint>

namespace gradreach {

/// A (T, B, size) tensor of the user's, strides in elements, the last one is 1.
struct Series {
  const void* data = nullptr;
  int64_t step = 0, row = 0;

  /// The row of step t and sequence b.
  template <class U>
  const U* at(int64_t t, int64_t b) const {
    return static_cast<const U*>(data) + t * step + b * row;
  }
};

constexpr int kScanSeries = 6;

/// How the gates of a row lie: in a series of their own, or as a layer of ours leaves them
/// (layer.h): `lanes` units of one gate, then as many of the next, and the next units `spread`
/// elements on.
struct Spread {
  int64_t lanes = 0, spread = 0;  // 0: neighbouring units are neighbours
  int64_t at(int64_t unit) const { return lanes ? unit / lanes * spread + unit % lanes : unit; }
};

/// Rows of a gradient as they are kept, contiguous: (K, B, size) of U, for float divided by scales.
struct KeptRows {
  void* values = nullptr;
  double* scales = nullptr;  // (K, B); null where U is double
};

/// A stretch of steps of one tape, last step first, for P independent gradients at once.
///
/// All arrays of doubles are contiguous. Every row of (P, B) has its own flow.
struct ScanCall {
  int kind = 0;  // Cell of table.h
  bool relu = false;
  int64_t probes = 1, batch = 0, hidden_size = 0;
  int threads = 1;
  const void* weight = nullptr;  // (G*H, H) of U, read by scan_pack only
  double* panels = nullptr;      // scan_panels(...) doubles, written by scan_pack
  double* left = nullptr;        // workspace: 2 (P*B, padded G*H)

  // RNN: h. GRU: r z n q h_before. LSTM: i f g o c c_before. Their first step is the stretch's.
  Series series[kScanSeries];
  Spread gates;                      // of the first four
  const void* first_cell = nullptr;  // (B, H): c before the first step of all, or null: c_before's
  const int64_t* lengths = nullptr;  // (B)
  const double *end_hidden = nullptr, *end_cell = nullptr;  // (P, B, H), null: nothing
  double *flow_hidden = nullptr, *flow_cell = nullptr;      // (P, B, H), in and out
  int64_t start = 0, steps = 0;                             // of the stretch
  const uint8_t* cuts = nullptr;                            // (K), null: none

  // (K, P, B, H): in what arrives, out the gradient of the state.
  double *hidden = nullptr, *cell = nullptr;
  // Where the arrivals are totals: out what the flow does not explain; else null.
  double *outside = nullptr, *outside_cell = nullptr;
  double noise = 0.0, lost = 0.0, overflow = 0.0;
  double* recurrent_side = nullptr;  // (K, P, B, G*H)
  double* input_side = nullptr;      // GRU only: the same

  // Instead of all that, where P = 1 and nothing arrives at the cells: what arrives is read where
  // it lies and the gradients are kept as they are made. `hidden`, `cell` and `input_side` are then
  // workspace of two steps, and recurrent_side is null.
  bool keep = false;
  Series arriving;  // (K, B, H), of double where arriving_wide, else of U; or null
  bool arriving_wide = false;
  KeptRows kept_hidden, kept_cell, kept_side;  // kept_side: as W_ih sees it
  KeptRows kept_last;                          // GRU: the candidate's columns as W_hh sees them
  double* norms = nullptr;                     // (K, B), of the whole state
};

/// The terms c_k = sum_b delta_kb value_kb^T of a gradient, or their products with a direction.
struct TermsCall {
  int64_t steps = 0, batch = 0, width = 0, columns = 0;
  int threads = 1;
  Series delta, value;              // (T, B, width), (T, B, columns) of U
  const double* scales = nullptr;   // (T, B): what a row of delta is to be multiplied with; or null
  double* total = nullptr;          // (width, columns): the sum over all steps
  double* norms = nullptr;          // (T)
  double* sums = nullptr;           // (T, width): sum_b delta_kb
  const void* direction = nullptr;  // (width, columns) of U
  double* along = nullptr;          // (T): <c_k, direction>
};

/// TermsCall in float32, where either factor may be the gradient: `columns` is then its width.
struct ProductsCall {
  int64_t steps = 0, batch = 0, rows = 0, columns = 0;
  int threads = 1;
  Series left, right;                // (T, B, rows), (T, B, columns) of float
  bool delta_right = false;          // which of them `scales` belongs to
  const double* scales = nullptr;    // (T, B)
  double* total = nullptr;           // (rows, columns): the sum over all steps is added
  const float* direction = nullptr;  // (rows, columns), or null
  double* along = nullptr;           // (T): <c_k, direction>
};

/// Some columns of a gradient, float32 with a scale a row, and which of two weights see them.
struct GramPart {
  Series delta;
  const double* scales = nullptr;  // (T, B)
  int64_t width = 0;
  bool of[2] = {true, true};
  double* sums = nullptr;  // (T, width): sum_b delta_kb; null: not wanted
};

/// The norms of the terms of two weights from the products of pairs of rows.
struct GramCall {
  int64_t steps = 0, batch = 0;
  int threads = 1, parts = 0;
  GramPart part[3];
  Series value[2];  // (T, B, columns) of float
  int64_t columns[2] = {0, 0};
  double* norms[2] = {nullptr, nullptr};  // (T); -1 where the matrix has to be formed
};

/// Elementwise work on a (T, B, size) series.
struct RowsCall {
  int64_t steps = 0, batch = 0, size = 0;
  int threads = 1;
  Series values;
  Spread units;
  int gates = 1;                     // that are summed: where units are spread, one after the other
  const int64_t* lengths = nullptr;  // (B): rows that exist; null: all
  double* norms = nullptr;           // (T, B)
  double *per_unit = nullptr, *per_step = nullptr;  // (gates, size), (gates, T): sums
  double *low = nullptr, *zero = nullptr;  // (size): steps and rows with a slope below / equal 0
  double level = 0.0;
  bool relu = false;  // the slope of relu, else of tanh, as a function of its output
};

/// values (rows, depth), contiguous, times weight (columns, depth) transposed, plus bias (columns).
struct LinearAddend {
  const void *values = nullptr, *weight = nullptr, *bias = nullptr;  // bias: null for none
  int64_t depth = 0;
};
/// out (rows, columns), contiguous: the sum of one or two of them.
struct LinearCall {
  static constexpr int kMost = 2;
  int64_t rows = 0, columns = 0;
  int threads = 1, addends = 0;
  LinearAddend addend[kMost];
  void* out = nullptr;
};

/// The gates of all steps from their pre-activations, in place.
///
/// LSTM: from_input (T, B, 4H) becomes i f g o; cells (T + 1, B, H), row 0 given, or null.
/// GRU: from_input (T, B, 3H) becomes r z n, with from_state (T, B, 3H); q (T, B, H) is written.
struct GatesCall {
  int kind = 0;  // Cell of table.h: LSTM or GRU
  int64_t steps = 0, batch = 0, hidden_size = 0;
  int threads = 1;
  void *from_input = nullptr, *cells = nullptr, *q = nullptr;
  double* carried = nullptr;  // (B, H): the cell state in float64 on its way, c_0 given
  const void* from_state = nullptr;
};

}  // namespace gradreach
