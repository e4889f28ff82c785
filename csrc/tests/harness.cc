// Runs every kernel on small arrays, for the sanitizers (`./dev proof sanitizers`).
//
// Each array is an allocation of its own of exactly the size the header promises, so that one
// element too far is seen. Results of the instruction sets are compared with the baseline's.
//
//   harness                all layers and all of measuring; then two callers at once
//   harness short-output   planted: the output is one row shorter than promised
//   harness odd-skips      planted: an array of int64 at an odd address
//   harness shared-output  planted: two callers write one output
//   harness short-scales   planted: one scale too few for the rows of a gradient
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../isa.h"
#include "../table.h"
#include "measuring.h"
#include "numbers.h"

namespace {

using gradreach::Activation;
using gradreach::Cell;
using gradreach::Gradients;
using gradreach::KernelTable;
using gradreach::Layer;
using gradreach::Rows;

struct Case {
  Cell cell;
  Activation activation;
  int64_t steps, batch, inputs, hidden;
  bool packed, reverse, extras;  // extras: biases, scale and skips
  int threads;
};

template <class T>
struct Functions;
template <>
struct Functions<float> {
  static bool forward(const KernelTable& k, const Layer& a) { return k.forward_f32(a); }
  static bool backward(const KernelTable& k, const Layer& a, const Gradients& d) {
    return k.backward_f32(a, d);
  }
  static int64_t reserve(const KernelTable& k, const Layer& a, int64_t rows) {
    return k.reserve_f32(a, rows);
  }
};
template <>
struct Functions<double> {
  static bool forward(const KernelTable& k, const Layer& a) { return k.forward_f64(a); }
  static bool backward(const KernelTable& k, const Layer& a, const Gradients& d) {
    return k.backward_f64(a, d);
  }
  static int64_t reserve(const KernelTable& k, const Layer& a, int64_t rows) {
    return k.reserve_f64(a, rows);
  }
};

/// A layer with all its arrays; `planted` breaks one promise.
template <class T>
struct Problem {
  Case c;
  int64_t gates, rows = 0;
  std::vector<int64_t> offsets, skips{1, 3};
  std::vector<char> odd;
  std::vector<T> input, hidden0, cell0, weight_ih, weight_hh, bias_ih, bias_hh, scale, carries,
      activation_bias, output, hidden_n, cell_n, reserve;
  std::vector<double> state_norms, slope_max, slope_low, gate_sums;
  std::vector<T> d_output, d_hidden_n, d_cell_n, d_input, d_hidden0, d_cell0, d_weight_ih,
      d_weight_hh, d_bias_ih, d_bias_hh, d_scale, d_carries, d_activation_bias;
  Layer a;
  Gradients d;

  Problem(const Case& the_case, const KernelTable& kernels, const std::string& planted)
      : c(the_case),
        gates(c.cell == Cell::kRnn   ? 1
              : c.cell == Cell::kGru ? 3
                                     : 4) {
    offsets.push_back(0);
    for (int64_t t = 0; t < c.steps; ++t) {
      // Packed rows end one after the other; the first lasts to the end.
      const int64_t alive = c.packed && t >= 2 ? std::max<int64_t>(1, c.batch - t + 1) : c.batch;
      offsets.push_back(offsets.back() + alive);
    }
    rows = offsets.back();
    const size_t bh = c.batch * c.hidden, gh = gates * c.hidden;
    input = drawn<T>(rows * c.inputs, 1);
    hidden0 = drawn<T>(bh, 2);
    cell0 = drawn<T>(bh, 3);
    weight_ih = drawn<T>(gh * c.inputs, 4);
    weight_hh = drawn<T>(gh * c.hidden, 5);
    // As layers start: larger, the recurrence is chaotic and makes a difference of rounding large.
    for (T& w : weight_hh) w /= std::sqrt(static_cast<T>(c.hidden));
    bias_ih = drawn<T>(gh, 6);
    bias_hh = drawn<T>(gh, 7);
    scale = drawn<T>(c.hidden, 8);
    carries = drawn<T>(skips.size() * c.hidden, 9);
    activation_bias = drawn<T>(c.hidden, 10);
    output.resize((rows - (planted == "short-output" ? 1 : 0)) * c.hidden);
    hidden_n.resize(bh);
    cell_n.resize(bh);

    a.cell = c.cell;
    a.activation = c.activation;
    a.slope = 0.1;
    a.steps = c.steps;
    a.batch = c.batch;
    a.input_size = c.inputs;
    a.hidden_size = c.hidden;
    a.offsets = c.packed ? offsets.data() : nullptr;
    a.reverse = c.reverse;
    a.threads = c.threads;
    a.input = {input.data(), c.batch * c.inputs, c.inputs};
    a.hidden0 = hidden0.data();
    a.weight_ih = weight_ih.data();
    a.weight_hh = weight_hh.data();
    a.output = {output.data(), c.batch * c.hidden, c.hidden};
    a.hidden_n = hidden_n.data();
    if (c.cell == Cell::kLstm) {
      a.cell0 = cell0.data();
      a.cell_n = cell_n.data();
    }
    if (c.extras) {
      a.bias_ih = bias_ih.data();
      a.bias_hh = bias_hh.data();
      a.scale = scale.data();
      a.carries = carries.data();
      a.skips = skips.data();
      a.skip_count = static_cast<int64_t>(skips.size());
    }
    if (planted == "odd-skips") {
      odd.resize(skips.size() * sizeof(int64_t) + 1);
      std::memcpy(odd.data() + 1, skips.data(), skips.size() * sizeof(int64_t));
      a.skips = reinterpret_cast<const int64_t*>(odd.data() + 1);
    }
    if (c.activation == Activation::kModRelu) a.activation_bias = activation_bias.data();
    reserve.resize(Functions<T>::reserve(kernels, a, rows));
    a.reserve = reserve.data();
    want_gradients(bh, gh);
  }

  void want_gradients(size_t bh, size_t gh) {
    d_output = drawn<T>(rows * c.hidden, 11);
    d_hidden_n = drawn<T>(bh, 12);
    d_cell_n = drawn<T>(bh, 13);
    d.output = {d_output.data(), c.batch * c.hidden, c.hidden};
    d.hidden_n = d_hidden_n.data();
    d_input.resize(rows * c.inputs);
    d.input = {d_input.data(), c.batch * c.inputs, c.inputs};
    d.hidden0 = sized(d_hidden0, bh);
    d.weight_ih = sized(d_weight_ih, gh * c.inputs);
    d.weight_hh = sized(d_weight_hh, gh * c.hidden);
    if (c.cell == Cell::kLstm) {
      d.cell_n = d_cell_n.data();
      d.cell0 = sized(d_cell0, bh);
    }
    if (c.extras) {
      d.bias_ih = sized(d_bias_ih, gh);
      d.bias_hh = sized(d_bias_hh, gh);
      d.scale = sized(d_scale, c.hidden);
      d.carries = sized(d_carries, carries.size());
    }
    if (c.activation == Activation::kModRelu) {
      d.activation_bias = sized(d_activation_bias, c.hidden);
    }
    if (c.extras) {
      d.state_norms = sized(state_norms, rows);
      d.slope_max = sized(slope_max, c.hidden);
      d.slope_low = sized(slope_low, c.hidden);
      if (c.cell != Cell::kRnn) d.gate_sums = sized(gate_sums, gh);
    }
  }

  template <class N>
  static N* sized(std::vector<N>& array, size_t count) {
    array.resize(count);
    return array.data();
  }

  bool run(const KernelTable& kernels) {
    return Functions<T>::forward(kernels, a) && Functions<T>::backward(kernels, a, d);
  }

  /// All results in one row, to be compared.
  std::vector<double> results() const {
    std::vector<double> all;
    for (const auto* part :
         {&output, &hidden_n, &cell_n, &d_input, &d_hidden0, &d_cell0, &d_weight_ih, &d_weight_hh,
          &d_bias_ih, &d_bias_hh, &d_scale, &d_carries, &d_activation_bias}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    for (const auto* part : {&state_norms, &slope_max, &slope_low, &gate_sums})
      all.insert(all.end(), part->begin(), part->end());
    return all;
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  // 37 columns fill no register of any width; 70 rows and two threads are worth sharing out.
  for (const Cell cell : {Cell::kRnn, Cell::kGru, Cell::kLstm}) {
    for (const bool packed : {false, true}) {
      for (const bool extras : {false, true}) {
        all.push_back({cell, Activation::kTanh, 6, 5, 3, 37, packed, extras, extras, 1});
        all.push_back({cell, Activation::kTanh, 6, 14, 5, 70, packed, !extras, extras, 3});
        all.push_back({cell, Activation::kTanh, 40, 1, 1, 96, packed, false, extras, 2});
      }
    }
  }
  // Weights that the backward of an RNN reads in place; a large one in several panels.
  all.push_back({Cell::kRnn, Activation::kTanh, 4, 7, 21, 37, false, false, true, 1});
  for (const int threads : {1, 2})
    all.push_back({Cell::kRnn, Activation::kTanh, 2, 9, 421, 530, false, false, true, threads});
  for (int activation = 0; activation <= static_cast<int>(Activation::kModRelu); ++activation) {
    all.push_back(
        {Cell::kRnn, static_cast<Activation>(activation), 5, 3, 2, 19, false, false, true, 1});
  }
  all.push_back({Cell::kRnn, Activation::kRelu, 1, 1, 1, 1, false, false, false, 2});
  return all;
}

/// Whether run(kernels, results), which may fail, finds the same with the kernels of every ISA.
template <class F>
bool same_on_every_isa(const std::string& what, double tolerance, F&& run) {
  std::vector<double> expected;
  // From the plainest on: it is what the others are compared with.
  std::vector<std::string> names;
  for (const char* const* isa = gradreach::compiled_isas(); *isa; ++isa) {
    names.insert(names.begin(), *isa);
  }
  for (const std::string& isa : names) {
    if (!gradreach::use_isa(isa.c_str())) continue;
    std::vector<double> found;
    if (!run(gradreach::kernels(), found)) return false;
    if (expected.empty()) expected = found;
    for (size_t i = 0; i < found.size(); ++i) {
      if (std::abs(found[i] - expected[i]) <= tolerance * (1.0 + std::abs(expected[i]))) continue;
      std::printf("%s differs from the baseline: %s: %g, not %g\n", isa.c_str(), what.c_str(),
                  found[i], expected[i]);
      return false;
    }
  }
  return true;
}

// Sums of some hundred terms in another order: 1e-4 in float32, 1e-11 in float64, at sizes where
// one wrong element is off by 1e-2 or more.
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-4 : 1e-11;

template <class T>
bool layer_agrees(const Case& c) {
  const std::string what = "cell " + std::to_string(static_cast<int>(c.cell)) + ", activation " +
                           std::to_string(static_cast<int>(c.activation)) + ", hidden " +
                           std::to_string(c.hidden);
  const auto run = [&](const KernelTable& kernels, std::vector<double>& results) {
    Problem<T> problem(c, kernels, "");
    const bool done = problem.run(kernels);
    results = problem.results();
    return done;
  };
  return same_on_every_isa(what, kTolerance<T>, run);
}

bool all_layers() {
  bool right = true;
  for (const Case& c : cases()) {
    right = layer_agrees<float>(c) && right;
    right = layer_agrees<double>(c) && right;
  }
  return right;
}

template <class T>
bool measurement_agrees(int kind, int64_t steps, int64_t batch, int64_t inputs, int64_t hidden,
                        int threads) {
  const std::string what = "measuring cell " + std::to_string(kind) + ", inputs " +
                           std::to_string(inputs) + ", hidden " + std::to_string(hidden);
  const auto run = [&](const KernelTable& kernels, std::vector<double>& results) {
    Measuring<T> measuring(kernels, kind, steps, batch, inputs, hidden, threads);
    const bool done = measuring.run();
    results = measuring.results;
    return done;
  };
  return same_on_every_isa(what, kTolerance<T>, run);
}

/// Sizes around whole vectors and tiles; the last is large enough for two threads.
bool all_measurements() {
  bool right = true;
  for (const int kind : {0, 1, 2}) {
    right = measurement_agrees<float>(kind, 5, 3, 2, 19, 1) && right;
    right = measurement_agrees<double>(kind, 5, 3, 2, 19, 1) && right;
    right = measurement_agrees<float>(kind, 1, 1, 1, 1, 1) && right;
    right = measurement_agrees<float>(kind, 7, 9, 37, 16, 2) && right;
    right = measurement_agrees<float>(kind, 40, 10, 48, 64, 2) && right;
    right = measurement_agrees<double>(kind, 40, 10, 17, 50, 2) && right;
  }
  return right;
}

/// Products of gradients with a scale for each row, of which the last is missing.
int short_scales() {
  const int64_t steps = 4, batch = 3, rows = 24, columns = 20;
  const std::vector<float> left = drawn<float>(steps * batch * rows, 1);
  const std::vector<float> right = drawn<float>(steps * batch * columns, 2);
  const std::vector<double> scales(steps * batch - 1, 2.0);
  std::vector<double> total(rows * columns), along(steps);
  gradreach::ProductsCall a;
  a.steps = steps;
  a.batch = batch;
  a.rows = rows;
  a.columns = columns;
  a.left = {left.data(), batch * rows, rows};
  a.right = {right.data(), batch * columns, columns};
  a.scales = scales.data();
  a.total = total.data();
  a.along = along.data();
  gradreach::kernels().products(a);
  std::puts("the planted bug was not seen");
  return 0;
}

/// Two callers at once, as two Python threads that have released the interpreter's lock.
bool two_callers(const std::string& planted) {
  const Case c{Cell::kLstm, Activation::kTanh, 12, 8, 4, 40, false, false, true, 2};
  const KernelTable& kernels = gradreach::kernels();
  Problem<float> one(c, kernels, ""), other(c, kernels, "");
  if (planted == "shared-output") other.a.output = one.a.output;
  bool right[2] = {true, true};
  const auto call = [&](Problem<float>& problem, bool& all_right) {
    for (int i = 0; i < 20; ++i) all_right = problem.run(kernels) && all_right;
  };
  std::thread thread([&] { call(one, right[0]); });
  call(other, right[1]);
  thread.join();
  return right[0] && right[1] && one.results() == other.results();
}

}  // namespace

int main(int count, char** words) {
  const std::string planted = count > 1 ? words[1] : "";
  if (planted == "short-output" || planted == "odd-skips") {
    const Case c{Cell::kRnn, Activation::kTanh, 5, 3, 2, 19, false, false, true, 1};
    Problem<float> problem(c, gradreach::kernels(), planted);
    problem.run(gradreach::kernels());
    std::puts("the planted bug was not seen");
    return 0;
  }
  if (planted == "short-scales") return short_scales();
  const bool right =
      (planted.empty() ? all_layers() && all_measurements() : true) && two_callers(planted);
  std::puts(right ? "all agree" : "wrong results");
  return right ? 0 : 1;
}
