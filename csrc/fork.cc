// A forked child has none of its parent's threads, but an OpenMP runtime that believes it has.
#include <atomic>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace gradreach {

namespace {
std::atomic<bool> used{false}, orphaned{false};
}

bool forked_from_threads() { return orphaned.load(std::memory_order_relaxed); }

void threads_in_use() {
  if (used.exchange(true, std::memory_order_relaxed)) return;
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] { orphaned.store(true, std::memory_order_relaxed); });
#endif
}

}  // namespace gradreach
