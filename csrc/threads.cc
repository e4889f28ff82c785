// What is known of the OpenMP runtime in this process.
#include "threads.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace gradreach {

#if defined(_OPENMP)
bool has_openmp() { return true; }
int max_threads() { return omp_get_max_threads(); }
#else
bool has_openmp() { return false; }
int max_threads() { return 1; }
#endif

#if defined(_OPENMP) && defined(__linux__)

namespace {

std::string file_of(const void* address) {
  Dl_info found;
  if (address == nullptr || dladdr(address, &found) == 0 || found.dli_fname == nullptr) return "";
  return found.dli_fname;
}

}  // namespace

std::string own_openmp_runtime() {
  // Through dlsym, as the address of the function itself may be that of a stub in this file. The
  // order is the loader's: what is global in the process comes before our own dependencies.
  if (const void* global = dlsym(RTLD_DEFAULT, "omp_get_max_threads")) return file_of(global);
  return file_of(reinterpret_cast<const void*>(&omp_get_max_threads));
}

std::string openmp_runtime_of(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return "";
  const void* theirs = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
  if (theirs == nullptr) theirs = dlsym(handle, "omp_get_max_threads");
  const std::string path = file_of(theirs);
  dlclose(handle);
  return path;
}

#else

std::string own_openmp_runtime() { return ""; }
std::string openmp_runtime_of(const std::string&) { return ""; }

#endif

}  // namespace gradreach
