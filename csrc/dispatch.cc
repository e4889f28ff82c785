// Chooses among the compiled instruction sets at run time. This file itself is compiled for the
// plainest processor, so that asking is safe anywhere.
#include <atomic>
#include <cstring>

#include "isa.h"

namespace gradreach {

namespace baseline {
const KernelTable& table();
}
#if defined(GRADREACH_X86)
namespace avx2 {
const KernelTable& table();
}
namespace avx512 {
const KernelTable& table();
}
#endif

namespace {

struct Candidate {
  const char* isa;
  const KernelTable& (*table)();
  bool (*supported)();
};

// Best first. __builtin_cpu_supports asks the operating system too (XGETBV): a processor whose
// wide registers are not saved on a context switch counts as one without them.
const Candidate kCandidates[] = {
#if defined(GRADREACH_X86)
    {"avx512", avx512::table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma");
     }},
    // No compiler offers "f16c" here before GCC 11; every processor with AVX2 has it.
    {"avx2", avx2::table,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {"baseline", baseline::table, [] { return true; }},
};

const Candidate* find(const char* isa) {
  for (const Candidate& candidate : kCandidates) {
    if (std::strcmp(candidate.isa, isa) == 0) return &candidate;
  }
  return nullptr;
}

const KernelTable* best() {
  for (const Candidate& candidate : kCandidates) {
    if (candidate.supported()) return &candidate.table();
  }
  return nullptr;  // not reached: the baseline is supported everywhere
}

std::atomic<const KernelTable*>& chosen() {
  static std::atomic<const KernelTable*> table{best()};
  return table;
}

}  // namespace

const char* const* compiled_isas() {
  static const auto names = [] {
    struct Names {
      const char* list[sizeof(kCandidates) / sizeof(Candidate) + 1] = {};
    } all;
    int count = 0;
    for (const Candidate& candidate : kCandidates) all.list[count++] = candidate.isa;
    return all;
  }();
  return names.list;
}

bool isa_supported(const char* isa) {
  const Candidate* candidate = find(isa);
  return candidate != nullptr && candidate->supported();
}

bool use_isa(const char* isa) {
  if (!isa_supported(isa)) return false;
  chosen().store(&find(isa)->table(), std::memory_order_release);
  return true;
}

const KernelTable& kernels() { return *chosen().load(std::memory_order_acquire); }

}  // namespace gradreach
