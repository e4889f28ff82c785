// What the native core computes, as plain structs: the one header that both sides of the
// instruction-set border share. No Python and no torch here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scan_calls.h"

namespace gradreach {

enum class Cell : int { kRnn = 0, kGru = 1, kLstm = 2 };

// The numbers stand in kernels/activations.py too; a test keeps the two in step.
enum class Activation : int {
  kTanh = 0,
  kRelu = 1,
  kLeakyRelu = 2,
  kElu = 3,
  kSelu = 4,
  kSoftsign = 5,
  kHardtanh = 6,
  kIdentity = 7,
  kSigmoid = 8,
  kGelu = 9,
  kSilu = 10,
  kModRelu = 11,
};

/// A (T, B, size) tensor, or the rows of a packed one; strides in elements, the last one is 1.
struct Rows {
  void* data = nullptr;
  int64_t step = 0;  // unused where rows are packed
  int64_t row = 0;
};

/// One layer in one direction over a whole batch of sequences.
///
/// All arrays are of the call's element type. Weights are contiguous in torch's layout and gate
/// order; (B, H) arrays are contiguous. Null means "absent" for every pointer marked so.
struct Layer {
  Cell cell = Cell::kRnn;
  Activation activation = Activation::kTanh;
  double slope = 0.0;  // of leaky_relu, alpha of elu
  int64_t steps = 0, batch = 0, input_size = 0, hidden_size = 0;
  const int64_t* offsets = nullptr;  // null: dense; else T + 1 first rows of the packed steps
  bool reverse = false;
  int threads = 1;

  Rows input;
  const void *hidden0 = nullptr, *cell0 = nullptr;  // cell0: LSTM only
  const void *weight_ih = nullptr, *weight_hh = nullptr;
  const void *bias_ih = nullptr, *bias_hh = nullptr;  // may be null
  const void* scale = nullptr;                        // (H) or null: counts as 1
  const void* carries = nullptr;                      // (S, H), null where S = 0
  const void* activation_bias = nullptr;              // (H), modrelu only
  const int64_t* skips = nullptr;                     // S lags
  int64_t skip_count = 0;

  Rows output;
  void *hidden_n = nullptr, *cell_n = nullptr;
  /// What the backward needs besides input and output; see reserve_elements(). Null: not kept.
  void* reserve = nullptr;
};

/// Gradients of one layer. Null results are not computed; null sources count as zero.
struct Gradients {
  Rows output;  // in
  const void *hidden_n = nullptr, *cell_n = nullptr;
  Rows input;  // out, from here on
  void *hidden0 = nullptr, *cell0 = nullptr;
  void *weight_ih = nullptr, *weight_hh = nullptr, *bias_ih = nullptr, *bias_hh = nullptr;
  void *scale = nullptr, *carries = nullptr, *activation_bias = nullptr;

  // Diagnostics, all float64, each may be null.
  double* state_norms = nullptr;   // (rows): the norm of dL/dh_t of each row of each step
  double* slope_max = nullptr;     // (H): largest derivative of the unit's nonlinearity
  double* slope_low = nullptr;     // (H): rows in which it is below 0.05
  double* gate_sums = nullptr;     // (G, H): sums of the gates in torch's order (not for RNN)
  void* pre_activation = nullptr;  // (rows, G*H): gradient at W_ih's side, torch's gate order
};

/// Most skip connections of one layer.
constexpr int kMostSkips = 8;

struct KernelTable {
  const char* isa;
  int vector_bytes;
  // False: there is no memory for the workspace, and nothing useful was written.
  bool (*forward_f32)(const Layer&);
  bool (*forward_f64)(const Layer&);
  bool (*backward_f32)(const Layer&, const Gradients&);
  bool (*backward_f64)(const Layer&, const Gradients&);
  /// Elements of the reserve, for rows = number of (step, sequence) pairs.
  int64_t (*reserve_f32)(const Layer&, int64_t rows);
  int64_t (*reserve_f64)(const Layer&, int64_t rows);

  // What a measurement of torch's own layers asks for (scan_calls.h); U is the user's type.
  int64_t (*scan_panels)(const ScanCall&);  // doubles of `panels` and of `left`
  int64_t (*scan_left)(const ScanCall&);
  void (*scan_pack_f32)(const ScanCall&);
  void (*scan_pack_f64)(const ScanCall&);
  void (*scan_f32)(const ScanCall&);
  void (*scan_f64)(const ScanCall&);
  bool (*terms_f32)(const TermsCall&);
  bool (*terms_f64)(const TermsCall&);
  bool (*terms_along_f32)(const TermsCall&);
  bool (*terms_along_f64)(const TermsCall&);
  bool (*products)(const ProductsCall&);
  bool (*gram_norms)(const GramCall&);
  void (*row_norms_f32)(const RowsCall&);
  void (*row_norms_f64)(const RowsCall&);
  bool (*unit_sums_f32)(const RowsCall&);
  bool (*unit_sums_f64)(const RowsCall&);
  bool (*linear_f32)(const LinearCall&);
  bool (*linear_f64)(const LinearCall&);
  void (*gates_f32)(const GatesCall&);
  void (*gates_f64)(const GatesCall&);
  /// The norm of the difference of n numbers each; `other` may be null.
  double (*distance_f32)(const float* one, const float* other, int64_t n);
  double (*distance_f64)(const double* one, const double* other, int64_t n);
  double (*distance_f64_f32)(const double* one, const float* other, int64_t n);
  /// (rows, size) of float64 as float32 with one float64 scale a row.
  void (*scale_rows)(const double* from, int64_t rows, int64_t size, int64_t stride, float* out,
                     int64_t out_stride, double* scales, int threads);
};

}  // namespace gradreach
