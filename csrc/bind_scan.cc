// What a measurement asks of the core, as Python sees it: addresses and strides, as in
// bind_layers.cc. Whoever calls keeps the tensors alive and has checked their sizes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <new>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "isa.h"
#include "workspace.h"

namespace nb = nanobind;

namespace {

using gradreach::GatesCall;
using gradreach::KernelTable;
using gradreach::LinearCall;
using gradreach::RowsCall;
using gradreach::ScanCall;
using gradreach::Series;
using gradreach::TermsCall;

using Address = uintptr_t;
using Place = std::tuple<Address, int64_t, int64_t>;  // of a Series

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Series series(const Place& place) {
  return {at<const void>(std::get<0>(place)), std::get<1>(place), std::get<2>(place)};
}

void check(bool done) {
  if (!done) throw std::bad_alloc();
}

using Rounding = std::tuple<double, double, double>;  // noise, lost, overflow

/// The reverse scan of one tape; it keeps the weights as float64.
struct TapeScan {
  ScanCall call;
  bool wide;
  const KernelTable& table = gradreach::kernels();

  TapeScan(bool wide_, int kind, bool relu, int64_t probes, int64_t batch, int64_t hidden,
           int threads, Address weight, Address lengths, const Rounding& rounding)
      : wide(wide_) {
    call.kind = kind;
    call.relu = relu;
    call.probes = probes;
    call.batch = batch;
    call.hidden_size = hidden;
    call.threads = threads;
    call.weight = at<const void>(weight);
    call.lengths = at<const int64_t>(lengths);
    std::tie(call.noise, call.lost, call.overflow) = rounding;
    const int64_t panels = table.scan_panels(call);
    void* const memory = gradreach::workspace_acquire(
        static_cast<size_t>(panels + table.scan_left(call)) * sizeof(double));
    if (!memory) throw std::bad_alloc();
    call.panels = static_cast<double*>(memory);
    call.left = call.panels + panels;
    (wide ? table.scan_pack_f64 : table.scan_pack_f32)(call);
  }
  TapeScan(const TapeScan&) = delete;
  TapeScan& operator=(const TapeScan&) = delete;
  ~TapeScan() { gradreach::workspace_release(call.panels); }

  void flow(Address hidden, Address cell, Address end_hidden, Address end_cell) {
    call.flow_hidden = at<double>(hidden);
    call.flow_cell = at<double>(cell);
    call.end_hidden = at<const double>(end_hidden);
    call.end_cell = at<const double>(end_cell);
  }

  /// The gates lie as a layer of ours has left them; c before the first step is elsewhere.
  void spread(int64_t lanes, int64_t elements, Address first_cell) {
    call.gates = {lanes, elements};
    call.first_cell = at<const void>(first_cell);
  }

  /// Where a gradient is kept: its values and their scales.
  using Kept = std::tuple<Address, Address>;

  /// Runs all steps at once and keeps the gradients; see ScanCall::keep.
  void keep(int64_t steps, const std::vector<Place>& activations, Address cuts,
            const Place& arriving, bool arriving_wide, const std::vector<Kept>& kept,
            Address norms) {
    ScanCall a = call;
    a.keep = true;
    a.start = 0;
    a.steps = steps;
    for (size_t i = 0; i < activations.size() && i < gradreach::kScanSeries; ++i)
      a.series[i] = series(activations[i]);
    a.cuts = at<const uint8_t>(cuts);
    a.arriving = series(arriving);
    a.arriving_wide = arriving_wide;
    gradreach::KeptRows* const places[] = {&a.kept_hidden, &a.kept_cell, &a.kept_side,
                                           &a.kept_last};
    for (size_t i = 0; i < kept.size() && i < 4; ++i)
      *places[i] = {at<void>(std::get<0>(kept[i])), at<double>(std::get<1>(kept[i]))};
    a.norms = at<double>(norms);
    const int64_t size = a.batch * a.hidden_size * 2;
    const int64_t cells = a.kind == 2 ? size : 0, inputs = a.kind == 1 ? 3 * size : 0;
    void* const memory =
        gradreach::workspace_acquire(static_cast<size_t>(size + cells + inputs) * sizeof(double));
    if (!memory) throw std::bad_alloc();
    a.hidden = static_cast<double*>(memory);
    a.cell = cells ? a.hidden + size : nullptr;
    a.input_side = inputs ? a.hidden + size + cells : nullptr;
    a.recurrent_side = a.outside = a.outside_cell = nullptr;
    {
      const nb::gil_scoped_release unlocked;
      (wide ? table.scan_f64 : table.scan_f32)(a);
    }
    gradreach::workspace_release(memory);
  }

  void run(int64_t start, int64_t steps, const std::vector<Place>& activations, Address cuts,
           Address hidden, Address cell, Address outside, Address outside_cell,
           Address recurrent_side, Address input_side) {
    call.start = start;
    call.steps = steps;
    for (size_t i = 0; i < activations.size() && i < gradreach::kScanSeries; ++i)
      call.series[i] = series(activations[i]);
    call.cuts = at<const uint8_t>(cuts);
    call.hidden = at<double>(hidden);
    call.cell = at<double>(cell);
    call.outside = at<double>(outside);
    call.outside_cell = at<double>(outside_cell);
    call.recurrent_side = at<double>(recurrent_side);
    call.input_side = at<double>(input_side);
    const nb::gil_scoped_release unlocked;
    (wide ? table.scan_f64 : table.scan_f32)(call);
  }
};

void weight_terms(bool wide, int64_t steps, int64_t batch, int64_t width, int64_t columns,
                  int threads, const Place& delta, const Place& value, Address scales,
                  Address total, Address norms, Address sums) {
  TermsCall a;
  a.steps = steps;
  a.batch = batch;
  a.width = width;
  a.columns = columns;
  a.threads = threads;
  a.delta = series(delta);
  a.value = series(value);
  a.scales = at<const double>(scales);
  a.total = at<double>(total);
  a.norms = at<double>(norms);
  a.sums = at<double>(sums);
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  check((wide ? table.terms_f64 : table.terms_f32)(a));
}

void weight_along(bool wide, int64_t steps, int64_t batch, int64_t width, int64_t columns,
                  int threads, const Place& delta, const Place& value, Address scales,
                  Address direction, Address along) {
  TermsCall a;
  a.steps = steps;
  a.batch = batch;
  a.width = width;
  a.columns = columns;
  a.threads = threads;
  a.delta = series(delta);
  a.value = series(value);
  a.scales = at<const double>(scales);
  a.direction = at<const void>(direction);
  a.along = at<double>(along);
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  check((wide ? table.terms_along_f64 : table.terms_along_f32)(a));
}

void products(int64_t steps, int64_t batch, int64_t rows, int64_t columns, int threads,
              const Place& left, const Place& right, bool delta_right, Address scales,
              Address total, Address direction, Address along) {
  gradreach::ProductsCall a;
  a.steps = steps;
  a.batch = batch;
  a.rows = rows;
  a.columns = columns;
  a.threads = threads;
  a.left = series(left);
  a.right = series(right);
  a.delta_right = delta_right;
  a.scales = at<const double>(scales);
  a.total = at<double>(total);
  a.direction = at<const float>(direction);
  a.along = at<double>(along);
  const nb::gil_scoped_release unlocked;
  check(gradreach::kernels().products(a));
}

/// A part: its place, the address of its scales, its width, which weights see it, where sums go.
using Part = std::tuple<Place, Address, int64_t, bool, bool, Address>;
/// The other factor of a weight: its place, its width, where the norms go.
using Factor = std::tuple<Place, int64_t, Address>;

void gram_norms(int64_t steps, int64_t batch, int threads, const std::vector<Part>& parts,
                const std::vector<Factor>& factors) {
  gradreach::GramCall a;
  a.steps = steps;
  a.batch = batch;
  a.threads = threads;
  for (const auto& [delta, scales, width, first, second, sums] : parts) {
    if (a.parts == 3) throw std::invalid_argument("more than three parts");
    a.part[a.parts++] = {
        series(delta), at<const double>(scales), width, {first, second}, at<double>(sums)};
  }
  int which = 0;
  for (const auto& [value, columns, norms] : factors) {
    if (which == 2) throw std::invalid_argument("more than two factors");
    a.value[which] = series(value);
    a.columns[which] = columns;
    a.norms[which++] = at<double>(norms);
  }
  const nb::gil_scoped_release unlocked;
  check(gradreach::kernels().gram_norms(a));
}

void row_norms(bool wide, int64_t steps, int64_t batch, int64_t size, int threads,
               const Place& values, Address norms) {
  RowsCall a;
  a.steps = steps;
  a.batch = batch;
  a.size = size;
  a.threads = threads;
  a.values = series(values);
  a.norms = at<double>(norms);
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  (wide ? table.row_norms_f64 : table.row_norms_f32)(a);
}

void unit_sums(bool wide, int64_t steps, int64_t batch, int64_t size, int threads,
               const Place& values, Address lengths, Address per_unit, Address per_step,
               Address low, Address zero, double level, bool relu, int gates, int64_t lanes,
               int64_t spread) {
  RowsCall a;
  a.steps = steps;
  a.batch = batch;
  a.size = size;
  a.threads = threads;
  a.values = series(values);
  a.lengths = at<const int64_t>(lengths);
  a.per_unit = at<double>(per_unit);
  a.per_step = at<double>(per_step);
  a.low = at<double>(low);
  a.zero = at<double>(zero);
  a.level = level;
  a.relu = relu;
  a.gates = gates;
  a.units = {lanes, spread};
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  check((wide ? table.unit_sums_f64 : table.unit_sums_f32)(a));
}

using Addend = std::tuple<Address, Address, Address, int64_t>;  // values, weight, bias; depth

void linear(bool wide, int64_t rows, int64_t columns, int threads,
            const std::vector<Addend>& addends, Address out) {
  LinearCall a;
  a.rows = rows;
  a.columns = columns;
  a.threads = threads;
  if (addends.size() > LinearCall::kMost) throw std::invalid_argument("more than two addends");
  for (const auto& [values, weight, bias, depth] : addends)
    a.addend[a.addends++] = {at<const void>(values), at<const void>(weight), at<const void>(bias),
                             depth};
  a.out = at<void>(out);
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  check((wide ? table.linear_f64 : table.linear_f32)(a));
}

void open_gates(bool wide, int kind, int64_t steps, int64_t batch, int64_t hidden, int threads,
                Address from_input, Address from_state, Address q, Address cells, Address carried) {
  GatesCall a;
  a.kind = kind;
  a.steps = steps;
  a.batch = batch;
  a.hidden_size = hidden;
  a.threads = threads;
  a.from_input = at<void>(from_input);
  a.from_state = at<const void>(from_state);
  a.q = at<void>(q);
  a.cells = at<void>(cells);
  a.carried = at<double>(carried);
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  (wide ? table.gates_f64 : table.gates_f32)(a);
}

double distance(bool wide, bool other_wide, Address one, Address other, int64_t n) {
  const nb::gil_scoped_release unlocked;
  const KernelTable& table = gradreach::kernels();
  if (!wide) return table.distance_f32(at<const float>(one), at<const float>(other), n);
  if (other_wide) return table.distance_f64(at<const double>(one), at<const double>(other), n);
  return table.distance_f64_f32(at<const double>(one), at<const float>(other), n);
}

void scale_rows(Address from, int64_t rows, int64_t size, int64_t stride, Address out,
                int64_t out_stride, Address scales, int threads) {
  const nb::gil_scoped_release unlocked;
  gradreach::kernels().scale_rows(at<const double>(from), rows, size, stride, at<float>(out),
                                  out_stride, at<double>(scales), threads);
}

}  // namespace

void bind_scan(nb::module_& m) {
  nb::class_<TapeScan>(m, "TapeScan")
      .def(nb::init<bool, int, bool, int64_t, int64_t, int64_t, int, Address, Address,
                    const Rounding&>())
      .def("flow", &TapeScan::flow)
      .def("spread", &TapeScan::spread)
      .def("keep", &TapeScan::keep)
      .def("run", &TapeScan::run);
  m.def("weight_terms", &weight_terms);
  m.def("weight_along", &weight_along);
  m.def("products", &products);
  m.def("gram_norms", &gram_norms);
  m.def("row_norms", &row_norms);
  m.def("unit_sums", &unit_sums);
  m.def("linear", &linear);
  m.def("open_gates", &open_gates);
  m.def("distance", &distance);
  m.def("scale_rows", &scale_rows);
}
