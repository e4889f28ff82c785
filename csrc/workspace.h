// Memory that is used again: a fresh allocation of this size costs its page faults in every call.
#pragma once

#include <cstddef>

namespace gradreach {

/// Asks for large pages, where the system has them, in memory that nobody has touched: each fault
/// costs a microsecond, and there are 500 times fewer. Nothing is promised.
void large_pages(void* memory, size_t bytes);

/// Returns at least `bytes` of 64-byte aligned memory, or null where there is none. Thread-safe.
void* workspace_acquire(size_t bytes);

/// Gives memory of workspace_acquire() back for later calls. Null is allowed.
void workspace_release(void* memory);

/// Returns what is kept for later calls to the system; tells how many bytes that were.
size_t workspace_trim();

}  // namespace gradreach
