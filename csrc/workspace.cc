// A short list of free blocks. Blocks in use carry their size in front of what the caller sees.
#include "workspace.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace gradreach {

namespace {

constexpr size_t kHead = 64;  // keeps the caller's memory aligned
constexpr size_t kPage = 4096;
constexpr size_t kLargePage = size_t{2} << 20;
constexpr int kKept = 8;
constexpr size_t kKeptBytes = size_t{1} << 30;

struct Pool {
  std::mutex lock;
  void* blocks[kKept] = {};
};

Pool& pool() {
  static Pool* const the_pool = new Pool;  // never destroyed: threads may outlive static objects
  return *the_pool;
}

size_t& size_of(void* block) { return *static_cast<size_t*>(block); }

size_t kept_bytes(Pool& p) {
  size_t total = 0;
  for (void* block : p.blocks) total += block ? size_of(block) : 0;
  return total;
}

}  // namespace

void large_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  const size_t skipped = (0 - reinterpret_cast<uintptr_t>(memory)) % kLargePage;
  if (bytes < skipped + kLargePage) return;
  madvise(static_cast<char*>(memory) + skipped, (bytes - skipped) / kLargePage * kLargePage,
          MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

void* workspace_acquire(size_t bytes) {
  size_t whole = (bytes + kHead + kPage - 1) / kPage * kPage;
  Pool& p = pool();
  void* outgrown = nullptr;
  {
    const std::lock_guard<std::mutex> held(p.lock);
    void **best = nullptr, **below = nullptr;
    for (void*& block : p.blocks) {
      if (!block) continue;
      // One more than eight times as large is left for somebody who needs it.
      if (size_of(block) >= whole && size_of(block) / 8 <= whole &&
          (!best || size_of(block) < size_of(*best)))
        best = &block;
      if (size_of(block) < whole && (!below || size_of(block) > size_of(*below))) below = &block;
    }
    if (best) {
      void* const found = *best;
      *best = nullptr;
      return static_cast<char*>(found) + kHead;
    }
    // The new block takes the place of one that is free and too small, as when that one had
    // grown: the backward of a layer wants more than its forward, and both need not be kept.
    if (below) {
      outgrown = *below;
      *below = nullptr;
    }
  }
  std::free(outgrown);
  void* const block = std::aligned_alloc(kPage, whole);
  if (!block) return nullptr;
  if (whole >= 2 * kLargePage) large_pages(block, whole);
  size_of(block) = whole;
  return static_cast<char*>(block) + kHead;
}

void workspace_release(void* memory) {
  if (!memory) return;
  void* block = static_cast<char*>(memory) - kHead;
  Pool& p = pool();
  {
    const std::lock_guard<std::mutex> held(p.lock);
    void** smallest = nullptr;
    const bool fits = kept_bytes(p) + size_of(block) <= kKeptBytes;
    for (void*& place : p.blocks) {
      if (!place && fits) {
        place = block;
        return;
      }
      if (place && (!smallest || size_of(place) < size_of(*smallest))) smallest = &place;
    }
    if (smallest && fits && size_of(*smallest) < size_of(block)) {
      void* const other = *smallest;
      *smallest = block;
      block = other;
    }
  }
  std::free(block);
}

size_t workspace_trim() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> held(p.lock);
  const size_t total = kept_bytes(p);
  for (void*& block : p.blocks) {
    std::free(block);
    block = nullptr;
  }
  return total;
}

}  // namespace gradreach
