// The widths are told apart by function attributes: this file is compiled for the plainest
// processor, so that the other functions of it run anywhere.
#include "peak.h"

#include <chrono>
#include <cstring>
#if defined(GRADREACH_X86)
#include <immintrin.h>
#endif

#include "isa.h"

namespace gradreach {

namespace {

// Latency times throughput is 8 to 10 on the processors of today; 12 chains keep every unit busy
// and fit, with the two factors, into the 16 registers of AVX2.
constexpr int kChains = 12;
constexpr int kRounds = 2000;                      // some 10 µs: the clock is asked in between
constexpr float kFactor = 0.999f, kTerm = 0.001f;  // the chains settle at 1: nothing denormal

typedef float Quad __attribute__((vector_size(16)));

// No two chains alike, or the compiler computes one of them for both.
float start(int chain) { return 0.5f + 0.01f * static_cast<float>(chain); }

float chains_baseline() {
  Quad chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = Quad{start(i), start(i), start(i), start(i)};
  const Quad factor = {kFactor, kFactor, kFactor, kFactor}, term = {kTerm, kTerm, kTerm, kTerm};
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + term;
  }
  float sum = 0.0f;
  for (const Quad& one : chain) sum += one[0];
  return sum;
}

#if defined(GRADREACH_X86)

__attribute__((target("avx2,fma"))) float chains_avx2() {
  __m256 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = _mm256_set1_ps(start(i));
  const __m256 factor = _mm256_set1_ps(kFactor), term = _mm256_set1_ps(kTerm);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      chain[i] = _mm256_fmadd_ps(chain[i], factor, term);
    }
  }
  float sum = 0.0f;
  for (const __m256& one : chain) sum += _mm256_cvtss_f32(one);
  return sum;
}

__attribute__((target("avx512f"))) float chains_avx512() {
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = _mm512_set1_ps(start(i));
  const __m512 factor = _mm512_set1_ps(kFactor), term = _mm512_set1_ps(kTerm);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      chain[i] = _mm512_fmadd_ps(chain[i], factor, term);
    }
  }
  float sum = 0.0f;
  for (const __m512& one : chain) sum += _mm512_cvtss_f32(one);
  return sum;
}

#endif

struct Width {
  const char* isa;
  int lanes;
  float (*chains)();
};

const Width kWidths[] = {
#if defined(GRADREACH_X86)
    {"avx512", 16, chains_avx512},
    {"avx2", 8, chains_avx2},
#endif
    {"baseline", 4, chains_baseline},
};

double rate(const Width& width, double seconds) {
  using Clock = std::chrono::steady_clock;
  volatile float kept = 0.0f;
  const Clock::time_point start = Clock::now();
  double spent = 0.0;
  int64_t calls = 0;
  do {
    for (int i = 0; i < 10; ++i) kept = width.chains();
    calls += 10;
    spent = std::chrono::duration<double>(Clock::now() - start).count();
  } while (spent < seconds);
  (void)kept;
  return 2.0 * width.lanes * kChains * kRounds * static_cast<double>(calls) / spent / 1e9;
}

}  // namespace

double peak_gflops(const std::string& isa, int threads, double seconds) {
  if (!isa_supported(isa.c_str())) return 0.0;
  for (const Width& width : kWidths) {
    if (isa != width.isa) continue;
    double total = 0.0;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) reduction(+ : total) schedule(static, 1)
#endif
    for (int thread = 0; thread < threads; ++thread) total += rate(width, seconds);
    return total;
  }
  return 0.0;
}

}  // namespace gradreach
