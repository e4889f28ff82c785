// The layers as Python sees them: plain integers for addresses, so that no torch header is needed.
// Whoever calls keeps the tensors alive and has checked their sizes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

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

/// Memory that goes back to the pool of workspaces when Python lets go of it.
struct Block {
  void* memory;
  explicit Block(size_t bytes) : memory(gradreach::workspace_acquire(bytes)) {
    if (!memory) throw std::bad_alloc();
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { gradreach::workspace_release(memory); }
};

/// One layer in one direction, bound to the memory of one call.
struct LayerCall {
  Layer layer;
  bool wide;  // float64
  std::vector<int64_t> skips;
  // Of the whole call: the layout of the reserve is that of one instruction set, and use_isa()
  // may choose another between forward and backward.
  const KernelTable& table = gradreach::kernels();

  LayerCall(bool wide_, int cell, int activation, double slope, std::vector<int64_t> lags,
            bool reverse)
      : wide(wide_), skips(std::move(lags)) {
    layer.cell = static_cast<gradreach::Cell>(cell);
    layer.activation = static_cast<gradreach::Activation>(activation);
    layer.slope = slope;
    layer.reverse = reverse;
    layer.skips = skips.data();
    layer.skip_count = static_cast<int64_t>(skips.size());
  }
  LayerCall(const LayerCall&) = delete;
  LayerCall& operator=(const LayerCall&) = delete;

  void shape(int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, Address offsets,
             int threads) {
    layer.steps = steps;
    layer.batch = batch;
    layer.input_size = inputs;
    layer.hidden_size = hidden;
    layer.offsets = static_cast<const int64_t*>(at(offsets));
    layer.threads = threads;
  }

  void operands(Address input, int64_t step, int64_t row, Address hidden, Address cell,
                Address weight_ih, Address weight_hh, Address bias_ih, Address bias_hh,
                Address scale, Address carries, Address activation_bias) {
    layer.input = Rows{at(input), step, row};
    layer.hidden0 = at(hidden);
    layer.cell0 = at(cell);
    layer.weight_ih = at(weight_ih);
    layer.weight_hh = at(weight_hh);
    layer.bias_ih = at(bias_ih);
    layer.bias_hh = at(bias_hh);
    layer.scale = at(scale);
    layer.carries = at(carries);
    layer.activation_bias = at(activation_bias);
  }

  void results(Address output, int64_t step, int64_t row, Address hidden, Address cell,
               Address reserve) {
    layer.output = Rows{at(output), step, row};
    layer.hidden_n = at(hidden);
    layer.cell_n = at(cell);
    layer.reserve = at(reserve);
  }

  int64_t reserve_bytes(int64_t rows) const {
    return wide ? 8 * table.reserve_f64(layer, rows) : 4 * table.reserve_f32(layer, rows);
  }

  void forward() const {
    const nb::gil_scoped_release unlocked;
    if (!(wide ? table.forward_f64 : table.forward_f32)(layer)) throw std::bad_alloc();
  }

  void backward(Address output, int64_t output_step, int64_t output_row, Address hidden_n,
                Address cell_n, Address input, int64_t input_step, int64_t input_row,
                Address hidden0, Address cell0, Address weight_ih, Address weight_hh,
                Address bias_ih, Address bias_hh, Address scale, Address carries,
                Address activation_bias, Address state_norms, Address slope_max, Address slope_low,
                Address gate_sums, Address pre_activation) const {
    Gradients d;
    d.output = Rows{at(output), output_step, output_row};
    d.hidden_n = at(hidden_n);
    d.cell_n = at(cell_n);
    d.input = Rows{at(input), input_step, input_row};
    d.hidden0 = at(hidden0);
    d.cell0 = at(cell0);
    d.weight_ih = at(weight_ih);
    d.weight_hh = at(weight_hh);
    d.bias_ih = at(bias_ih);
    d.bias_hh = at(bias_hh);
    d.scale = at(scale);
    d.carries = at(carries);
    d.activation_bias = at(activation_bias);
    d.state_norms = static_cast<double*>(at(state_norms));
    d.slope_max = static_cast<double*>(at(slope_max));
    d.slope_low = static_cast<double*>(at(slope_low));
    d.gate_sums = static_cast<double*>(at(gate_sums));
    d.pre_activation = at(pre_activation);
    const nb::gil_scoped_release unlocked;
    if (!(wide ? table.backward_f64 : table.backward_f32)(layer, d)) throw std::bad_alloc();
  }
};

}  // namespace

void bind_layers(nb::module_& m) {
  nb::class_<Block>(m, "Block")
      .def(nb::init<size_t>(), nb::arg("size"))
      .def_prop_ro("address", [](const Block& b) { return reinterpret_cast<Address>(b.memory); });
  nb::class_<LayerCall>(m, "LayerCall")
      .def(nb::init<bool, int, int, double, std::vector<int64_t>, bool>(), nb::arg("wide"),
           nb::arg("cell"), nb::arg("activation"), nb::arg("slope"), nb::arg("skips"),
           nb::arg("reverse"))
      .def("shape", &LayerCall::shape)
      .def("operands", &LayerCall::operands)
      .def("results", &LayerCall::results)
      .def("reserve_bytes", &LayerCall::reserve_bytes)
      .def_prop_ro("lanes",
                   [](const LayerCall& c) { return c.table.vector_bytes / (c.wide ? 8 : 4); })
      .def("forward", &LayerCall::forward)
      .def("backward", &LayerCall::backward);
  m.def("workspace_trim", &gradreach::workspace_trim);
  m.attr("MOST_SKIPS") = gradreach::kMostSkips;
}
