// A team member's share of a backward: what it works on, and the sums it adds to.
#pragma once

#include "room.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// Sums over a team's rows, added up over the teams at the end.
template <class T>
struct Sums {
  T *weight_ih, *weight_hh;  // torch's layout
  T* inputs;                 // (few inputs + 1, kept gates): W_ih of a narrow input, then biases
  T *scale, *carries, *activation_bias;
  double *slope_max, *slope_low, *gates;
};

/// What one team member works on, and how that is laid out. All parts of its backward ask here.
template <class T>
struct Share {
  static constexpr int L = Shape<T>::L;
  static constexpr int64_t kFewInputs = 8;  // up to here W_ih's gradient is summed vector by vector

  const Layer& a;
  const Gradients& d;  // what is asked for, and what arrives
  const Shape<T>& s;
  const Tiling& tiling;  // of the units over the members of a team
  const Block block;     // the team's sequences
  const int team;
  const Member member;
  const Time time;
  const int64_t stride, width;  // of a row of the gates' gradients, of a row of units
  const int64_t chunk;          // rows of a chunk of steps
  const bool few_inputs;

  Share(const Layer& layer, const Gradients& gradients, const Shape<T>& shape, const Tiling& tiles,
        const Room& room, const Block& rows, int own_team, const Member& who)
      : a(layer),
        d(gradients),
        s(shape),
        tiling(tiles),
        block(rows),
        team(own_team),
        member(who),
        time(layer),
        stride(padded_stride<T>(shape.kept_gates)),
        width(shape.units * L),
        chunk(chunk_capacity(time, rows, room.rows)),
        few_inputs(shape.inputs <= kFewInputs) {}

  /// The row of the team's first sequence at a step.
  T* first_row(const Rows& rows, int64_t t) const { return time.row<T>(rows, t, block.first); }
  int64_t inputs_summed() const { return few_inputs && d.weight_ih ? s.inputs : 0; }

  /// Over the gates of one side, padding included; without gaps between them one long segment is
  /// faster.
  Walk padded_walk() const {
    const int64_t side = s.gates.count * L, whole = s.gates.group * L;
    return side == whole ? Walk{1, s.units * side, 0} : Walk{s.units, side, whole};
  }
  /// The same without the padding at the end of a long segment.
  Walk gate_walk() const {
    Walk walk = padded_walk();
    if (walk.segments == 1) walk.length -= s.units * L - s.hidden;
    return walk;
  }
  /// Visits the steps of a chunk in the order of the delta buffer: visit(first row, t, rows).
  template <class F>
  void each_step(int64_t first, int64_t last, F&& visit) const {
    int64_t row = 0;
    for (int64_t p = last - 1; p >= first; --p) {
      const int64_t t = time.at(p), alive = block.alive(time.rows(t));
      if (alive > 0) visit(row, t, alive);
      row += alive;
    }
  }
  /// Visits their rows: visit(row, t, b).
  template <class F>
  void each_row(int64_t first, int64_t last, F&& visit) const {
    each_step(first, last, [&](int64_t row, int64_t t, int64_t alive) {
      for (int64_t r = 0; r < alive; ++r) visit(row + r, t, block.first + r);
    });
  }
};

/// place[0..L) += value.
template <class T>
GRADREACH_INLINE void add_to(T* place, Vec<T> value) {
  store(place, load(place) + value);
}

/// Zeroes what there is of an array.
template <class N>
void zero(N* place, int64_t n) {
  if (place) std::memset(place, 0, static_cast<size_t>(n) * sizeof(N));
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
