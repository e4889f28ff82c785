// Numbers for the harness, the same in every run.
#pragma once

#include <cstdint>
#include <vector>

/// Numbers in [-0.4, 0.4).
template <class T>
std::vector<T> drawn(size_t count, uint64_t seed) {
  std::vector<T> values(count);
  uint64_t state = seed * 2654435761u + 12345u;
  for (T& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<T>(static_cast<double>(state >> 40) / 16777216.0 * 0.8 - 0.4);
  }
  return values;
}
