// Products of all rows of a series with weights: the pre-activations of all steps at once.
#pragma once

#include "run_layer.h"
#include "scan_calls.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Threads split the rows. Of a block of them each tile of columns takes all addends in turn, while
/// its sums are in the first cache.
template <class T>
bool linear(const LinearCall& a) {
  constexpr int L = kLanes<T>;
  constexpr int64_t kRows = 128;
  const auto shape_of = [&](const LinearAddend& addend) {
    Layer one;  // columns that lie as the units of a simple cell do
    one.input_size = addend.depth;
    one.hidden_size = a.columns;
    return Shape<T>(one);
  };
  int64_t depth = 0;
  for (int f = 0; f < a.addends; ++f) depth += a.addend[f].depth;
  Plan plan;
  plan.members = threads_for(a.threads, a.rows * a.columns * depth > 1000000);
  const int64_t vectors = (a.columns + L - 1) / L, width = vectors * L;
  const Split tiles = wide_tiles(vectors);

  return with_memory([&](Arena& arena) {
    T* const bias = arena.take<T>(width);
    T* panels[LinearCall::kMost];
    for (int f = 0; f < a.addends; ++f) panels[f] = arena.take<T>(width * a.addend[f].depth);
    if (arena.base == nullptr) return;
    for (int64_t i = 0; i < width; ++i) {
      bias[i] = T(0);
      for (int f = 0; f < a.addends && i < a.columns; ++f)
        if (a.addend[f].bias) bias[i] += static_cast<const T*>(a.addend[f].bias)[i];
    }
    Barrier barrier;
    on_threads(plan, &barrier, [&](int, const Member& member) {
      for (int f = 0; f < a.addends; ++f) {
        const LinearAddend& addend = a.addend[f];
        const Shape<T> s = shape_of(addend);
        for (int64_t i = member.rank; i < tiles.parts; i += member.size)
          pack_transposed(s, s.gates.input_gate, static_cast<const T*>(addend.weight), addend.depth,
                          tiles.begin(i), static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)),
                          panels[f] + tiles.begin(i) * L * addend.depth);
      }
      member.sync();
      const T* left[kRows];
      T* out[kRows];
      const int64_t end = member.end(a.rows);
      for (int64_t row = member.begin(a.rows); row < end; row += kRows) {
        const int64_t rows = end - row < kRows ? end - row : kRows;
        lay_rows(out, rows, static_cast<T*>(a.out) + row * a.columns, a.columns);
        for (int64_t i = 0; i < tiles.parts; ++i) {
          const int64_t first = tiles.begin(i), last = tiles.begin(i + 1);
          const int64_t tail = a.columns - (last - 1) * L;
          for (int f = 0; f < a.addends; ++f) {
            const LinearAddend& addend = a.addend[f];
            lay_rows(left, rows, static_cast<const T*>(addend.values) + row * addend.depth,
                     addend.depth);
            product(static_cast<int>(last - first), rows, left, Walk{1, addend.depth, 0},
                    panels[f] + first * L * addend.depth, out, first * L,
                    static_cast<int>(tail < L ? tail : L), f == 0 ? Into::kBias : Into::kAdd,
                    f == 0 ? bias + first * L : nullptr);
          }
        }
      }
    });
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
