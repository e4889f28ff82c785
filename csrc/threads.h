// The threads the kernels run on: those of the OpenMP runtime that torch has loaded.
#pragma once

#include <string>

namespace gradreach {

/// Whether the core was compiled with OpenMP.
bool has_openmp();

/// How many threads a parallel region started now would get; 1 without OpenMP.
int max_threads();

/// Path of the OpenMP runtime that the core's parallel regions run on; empty without OpenMP, and
/// where the system has no way to tell.
std::string own_openmp_runtime();

/// The same for a library that is loaded already, such as "libtorch_cpu.so"; empty when it is
/// not loaded or uses no OpenMP. Where it differs from the core's own there are two pools of
/// threads that compete for the same processors.
std::string openmp_runtime_of(const std::string& library);

}  // namespace gradreach
