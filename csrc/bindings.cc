// The Python module gradreach.kernels._native. Only the bind*.cc files of the core know Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "isa.h"
#include "peak.h"
#include "threads.h"

namespace nb = nanobind;

void bind_layers(nb::module_& m);  // bind_layers.cc
void bind_scan(nb::module_& m);    // bind_scan.cc

namespace {

std::vector<std::string> compiled_isas() {
  std::vector<std::string> names;
  for (const char* const* isa = gradreach::compiled_isas(); *isa != nullptr; ++isa) {
    names.emplace_back(*isa);
  }
  return names;
}

/// What the core is and what it runs on; status() and `gradreach info` ask it.
void bind_machine(nb::module_& m) {
  m.def("compiled_isas", &compiled_isas);
  m.def("isa", [] { return std::string(gradreach::kernels().isa); });
  m.def(
      "isa_supported", [](const std::string& isa) { return gradreach::isa_supported(isa.c_str()); },
      nb::arg("isa"));
  m.def(
      "use_isa", [](const std::string& isa) { return gradreach::use_isa(isa.c_str()); },
      nb::arg("isa"));
  m.def("peak_gflops", &gradreach::peak_gflops, nb::arg("isa"), nb::arg("threads"),
        nb::arg("seconds"), nb::call_guard<nb::gil_scoped_release>());
  m.def("has_openmp", &gradreach::has_openmp);
  m.def("max_threads", &gradreach::max_threads);
  m.def("own_openmp_runtime", &gradreach::own_openmp_runtime);
  m.def("openmp_runtime_of", &gradreach::openmp_runtime_of, nb::arg("library"));
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native core of gradreach: recurrent layers as fused loops over time.";
  // A graph alive at exit holds its layers: that is no leak of ours to warn of.
  nb::set_leak_warnings(false);
  bind_machine(m);
  bind_layers(m);
  bind_scan(m);
}
