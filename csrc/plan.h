// How a call is shared out: which threads form a team, which rows it has, and the parallel region.
#pragma once

#if defined(GRADREACH_STD_THREADS)
#include <thread>
#include <vector>
#elif defined(_OPENMP)
#include <omp.h>
#endif

#include "layer.h"
#include "workspace.h"

namespace gradreach {

/// Whether this process was forked after it had used threads: it must not use them again.
bool forked_from_threads();
/// Tells the next fork that threads are in use.
void threads_in_use();

namespace GRADREACH_ISA {

constexpr int64_t kForwardRows = 128;  // of a chunk of steps of the forward

struct Plan {
  int teams = 1, members = 1;
  int threads() const { return teams * members; }
};

constexpr int kMostThreads = 64;

/// How many of the threads asked for share out a call: one where it is not worth more.
inline int threads_for(int asked, bool worth) {
  if (asked <= 1 || !worth || forked_from_threads()) return 1;
  return asked < kMostThreads ? asked : kMostThreads;
}

/// Rows are split over the threads, each with the whole loop over time to itself, unless the
/// weights then fall out of a core's own cache or too few rows are left for a full tile: then the
/// threads of a team split the columns and meet after every step.
template <class T>
Plan plan_of(const Layer& a, const Shape<T>& s, int64_t rows) {
  constexpr double kSmall = 4e5;             // flops below which a second thread costs more
  constexpr int64_t kOwnCache = 640 * 1024;  // bytes of recurrent weights
  constexpr int64_t kFewRows = 5;
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(s.gates.count) *
                       static_cast<double>(s.hidden) * static_cast<double>(s.hidden + s.inputs);
  Plan plan;
  const int threads = threads_for(a.threads, flops >= kSmall);
  if (threads == 1) return plan;
  const int64_t weights = s.gates.count * s.hidden * s.hidden * static_cast<int64_t>(sizeof(T));
  plan.teams = threads;
  for (int members = 2; members <= threads; ++members) {
    const bool fits = weights / plan.members <= kOwnCache && s.batch >= kFewRows * plan.teams;
    if (fits) break;
    if (threads % members != 0 || s.units < members) continue;
    plan.members = members;
    plan.teams = threads / members;
  }
  while (plan.teams > s.batch) --plan.teams;
  return plan;
}

/// Rows that a chunk of steps of a block may hold: `wanted`, or those of the longest step, or all.
inline int64_t chunk_capacity(const Time& time, const Block& block, int64_t wanted) {
  const int64_t size = block.size();
  int64_t rows = wanted < time.steps * size ? wanted : time.steps * size;
  if (rows < size) rows = size;
  return time.offsets || size == 0 ? rows : rows / size * size;
}

/// The rows of one team, of about the same number of steps in all.
inline Block block_of(const Time& time, int64_t total, int team, int teams) {
  if (!time.offsets) return {team * time.batch / teams, (team + 1) * time.batch / teams};
  Block block{0, time.batch};
  // rows are sorted by length: the steps of the first b rows are a sum of clipped step sizes
  const auto steps_of = [&](int64_t b) {
    int64_t sum = 0;
    for (int64_t t = 0; t < time.steps; ++t) {
      const int64_t n = time.rows(t);
      sum += n < b ? n : b;
    }
    return sum;
  };
  const auto cut = [&](int k) {
    if (k == 0) return int64_t{0};
    if (k == teams) return time.batch;
    int64_t low = k, high = time.batch - (teams - k);  // at least one row for everybody
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (steps_of(middle) * teams < total * k)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  };
  block.first = cut(team);
  block.last = cut(team + 1);
  return block;
}

/// Runs work(team, member) on all threads of the plan.
template <class F>
void on_threads(const Plan& plan, Barrier* barriers, F&& work) {
#if defined(GRADREACH_STD_THREADS)
  // For the thread sanitizer, which does not see how an OpenMP runtime synchronises.
  std::vector<std::thread> others;
  for (int thread = 1; thread < plan.threads(); ++thread) {
    others.emplace_back([&, thread] {
      const int team = thread / plan.members;
      work(team, Member{thread % plan.members, plan.members, barriers + team});
    });
  }
  work(0, Member{0, plan.members, barriers});
  for (std::thread& other : others) other.join();
  return;
#elif defined(_OPENMP)
  if (plan.threads() > 1) {
    threads_in_use();
    // The runtime may give fewer threads than asked for: then nobody may wait for the missing.
    bool complete = true;
#pragma omp parallel num_threads(plan.threads())
    {
      if (omp_get_num_threads() != plan.threads()) {
#pragma omp single
        complete = false;
      } else {
        const int thread = omp_get_thread_num();
        const int team = thread / plan.members;
        work(team, Member{thread % plan.members, plan.members, barriers + team});
      }
    }
    if (complete) return;
    for (int team = 0; team < plan.teams; ++team) work(team, Member{0, 1, barriers + team});
    return;
  }
#endif
  for (int team = 0; team < plan.teams; ++team) work(team, Member{0, 1, barriers + team});
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
