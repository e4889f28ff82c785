// The layers as Python sees them: plain integers for addresses, so that no torch header is needed.
// Whoever calls keeps the tensors alive and has checked their sizes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdint>
#include <new>
#include <vector>

#include "isa.h"
#include "workspace.h"

namespace nb = nanobind;

namespace {

using gradreach::Gradients;
using gradreach::KernelTable;
using gradreach::Layer;
using gradreach::Rows;

using Address = uintptr_t;

void* at(Address address) { return reinterpret_cast<void*>(address); }

// What Python passes at once: the addresses of tensors, and of those that are walked row by row the
// strides of steps and rows. The order is that of `invocation.py`.
using Walked = std::array<int64_t, 3>;
using Operands = std::array<Address, 9>;  // h_0, c_0, W_ih, W_hh, b_ih, b_hh, scale, carries, …
// Norms of states, largest slopes, small ones, gates, gradients of pre-activations.
using Statistics = std::array<Address, 5>;

Rows rows_at(const Walked& walked) {
  return Rows{at(static_cast<Address>(walked[0])), walked[1], walked[2]};
}

/// One layer in one direction, bound to the memory of one call.
struct LayerCall {
  Layer layer;
  bool wide;  // float64
  std::vector<int64_t> skips;
  void* reserve = nullptr;  // its own, from the pool of workspaces, where no other was given
  // Of the whole call: the layout of the reserve is that of one instruction set, and use_isa()
  // may choose another between forward and backward.
  const KernelTable& table = gradreach::kernels();

  LayerCall(bool wide_, int cell, int activation, double slope, std::vector<int64_t> lags,
            bool reverse, int64_t steps, int64_t batch, int64_t inputs, int64_t hidden,
            Address offsets, int threads)
      : wide(wide_), skips(std::move(lags)) {
    layer.cell = static_cast<gradreach::Cell>(cell);
    layer.activation = static_cast<gradreach::Activation>(activation);
    layer.slope = slope;
    layer.reverse = reverse;
    layer.skips = skips.data();
    layer.skip_count = static_cast<int64_t>(skips.size());
    layer.steps = steps;
    layer.batch = batch;
    layer.input_size = inputs;
    layer.hidden_size = hidden;
    layer.offsets = static_cast<const int64_t*>(at(offsets));
    layer.threads = threads;
  }
  LayerCall(const LayerCall&) = delete;
  LayerCall& operator=(const LayerCall&) = delete;
  ~LayerCall() { gradreach::workspace_release(reserve); }

  /// Of the operands only the presence of a scale counts.
  int64_t reserve_bytes(int64_t rows, bool scaled) const {
    Layer sized = layer;
    sized.scale = scaled ? this : nullptr;
    return wide ? 8 * table.reserve_f64(sized, rows) : 4 * table.reserve_f32(sized, rows);
  }

  /// `keep`: for a backward; in memory of its own unless `given` says where.
  void forward(const Walked& input, const Operands& operands, const Walked& output,
               Address hidden_n, Address cell_n, bool keep, int64_t rows, Address given) {
    Layer bound = bind(input, operands, output);
    bound.hidden_n = at(hidden_n);
    bound.cell_n = at(cell_n);
    bound.reserve = at(given);
    if (keep && !given) bound.reserve = acquire(reserve_bytes(rows, bound.scale != nullptr));
    const nb::gil_scoped_release unlocked;
    if (!(wide ? table.forward_f64 : table.forward_f32)(bound)) throw std::bad_alloc();
  }

  void backward(const Walked& input, const Operands& operands, const Walked& output, Address given,
                const Walked& arriving, Address hidden_n, Address cell_n, const Walked& input_made,
                const Operands& made, const Statistics& told) const {
    Layer bound = bind(input, operands, output);
    bound.reserve = given ? at(given) : reserve;
    Gradients d;
    d.output = rows_at(arriving);
    d.hidden_n = at(hidden_n);
    d.cell_n = at(cell_n);
    d.input = rows_at(input_made);
    d.hidden0 = at(made[0]);
    d.cell0 = at(made[1]);
    d.weight_ih = at(made[2]);
    d.weight_hh = at(made[3]);
    d.bias_ih = at(made[4]);
    d.bias_hh = at(made[5]);
    d.scale = at(made[6]);
    d.carries = at(made[7]);
    d.activation_bias = at(made[8]);
    d.state_norms = static_cast<double*>(at(told[0]));
    d.slope_max = static_cast<double*>(at(told[1]));
    d.slope_low = static_cast<double*>(at(told[2]));
    d.gate_sums = static_cast<double*>(at(told[3]));
    d.pre_activation = at(told[4]);
    const nb::gil_scoped_release unlocked;
    if (!(wide ? table.backward_f64 : table.backward_f32)(bound, d)) throw std::bad_alloc();
  }

 private:
  void* acquire(int64_t bytes) {
    gradreach::workspace_release(reserve);
    reserve = bytes ? gradreach::workspace_acquire(static_cast<size_t>(bytes)) : nullptr;
    if (bytes && !reserve) throw std::bad_alloc();
    return reserve;
  }

  /// The layer with a call's tensors; a copy, since several threads may run one call backwards.
  Layer bind(const Walked& input, const Operands& operands, const Walked& output) const {
    Layer bound = layer;
    bound.input = rows_at(input);
    bound.hidden0 = at(operands[0]);
    bound.cell0 = at(operands[1]);
    bound.weight_ih = at(operands[2]);
    bound.weight_hh = at(operands[3]);
    bound.bias_ih = at(operands[4]);
    bound.bias_hh = at(operands[5]);
    bound.scale = at(operands[6]);
    bound.carries = at(operands[7]);
    bound.activation_bias = at(operands[8]);
    bound.output = rows_at(output);
    return bound;
  }
};

}  // namespace

void bind_layers(nb::module_& m) {
  nb::class_<LayerCall>(m, "LayerCall")
      .def(nb::init<bool, int, int, double, std::vector<int64_t>, bool, int64_t, int64_t, int64_t,
                    int64_t, Address, int>())
      .def("reserve_bytes", &LayerCall::reserve_bytes)
      .def_prop_ro("reserve",
                   [](const LayerCall& c) { return reinterpret_cast<Address>(c.reserve); })
      .def_prop_ro("lanes",
                   [](const LayerCall& c) { return c.table.vector_bytes / (c.wide ? 8 : 4); })
      .def("forward", &LayerCall::forward)
      .def("backward", &LayerCall::backward);
  m.def("workspace_trim", &gradreach::workspace_trim);
  m.def("large_pages", [](Address memory, size_t bytes) {
    gradreach::large_pages(reinterpret_cast<void*>(memory), bytes);
  });
  m.attr("MOST_SKIPS") = gradreach::kMostSkips;
}
