// How much memory a backward takes beside its results, and what for.
#pragma once

#include "plan.h"

namespace gradreach {
namespace GRADREACH_ISA {

constexpr int64_t kPanelRows = 128;  // of a panel of states or inputs that stays in the first cache

/// Whether the gradient of so few inputs is taken as dot products with columns of W_ih: a tile of
/// them would be empty for the most part.
inline bool dotted(int64_t inputs) { return inputs <= 4; }

/// Vectors of such a panel.
template <class T>
int64_t panel_vectors(const Shape<T>& s) {
  const int64_t inputs = wide_tiles((s.inputs + Shape<T>::L - 1) / Shape<T>::L).largest();
  const int64_t states = wide_tiles(s.units).largest();
  return inputs > states ? inputs : states;
}

/// Elements that may stand beside all results of an RNN's step, for it to peak below 1.1 times
/// them.
template <class T>
int64_t little(const Shape<T>& s) {
  const int64_t all = s.steps * s.batch;  // more than there are, where rows are packed
  return (all * (s.inputs + s.hidden + s.kept) + s.hidden * (s.hidden + s.inputs)) / 13;
}

/// Which weights the forward has a packed copy of: all but those of an RNN of which a large copy
/// would take more than all that may stand beside the results, or that so few rows use that
/// packing takes longer than what it saves.
struct ForwardRoom {
  bool packs_state, packs_input;
  int64_t rows = kForwardRows;  // of a chunk of steps
  int64_t elements =
      0;  // of the copies, and of an RNN's chunks: the others leave those in the reserve

  template <class T>
  ForwardRoom(const Layer& a, const Shape<T>& s, const Plan& plan) {
    constexpr int64_t kFewRows = 16, kLarge = 256 * 1024;
    const bool rnn = a.cell == Cell::kRnn;
    const int64_t width = s.units * Shape<T>::L;
    const auto packs = [&](int64_t depth) {
      const int64_t copy = width * s.gates.count * depth;
      const bool large = copy * static_cast<int64_t>(sizeof(T)) > kLarge && copy > little(s);
      if (rnn && (large || s.steps * s.batch < kFewRows)) return false;
      elements += copy;
      return true;
    };
    packs_state = packs(s.hidden);
    packs_input = packs(s.inputs);
    if (!rnn) return;
    if (elements + plan.teams * rows * width > little(s)) rows /= 2;
    elements += plan.teams * rows * width;
  }
};

/// Rows of a chunk of steps, and which weights have a packed copy.
///
/// Each chunk reads and writes the gradient of the weights once: the larger, the fewer chunks. But
/// an RNN's step is to peak below 1.1 times its results: its chunk, the other teams' copies of the
/// weights' gradients and the packed weights have a thirteenth of the results (and of the reserve,
/// where there is one), or what the forward has taken, whose block is there and may be used. An
/// RNN's matrices are right operands as they stand, too, a row for each unit: they are packed where
/// that leaves a fair chunk, since rows far apart fall into few sets of the first cache. The gates
/// of the other cells are kept in another order than torch's, so that theirs always are, as are
/// columns of less than a vector.
struct Room {
  bool packs_state, packs_input;
  int64_t rows;

  template <class T>
  Room(const Layer& a, const Gradients& d, const Shape<T>& s, const Plan& plan) {
    constexpr int L = Shape<T>::L;
    constexpr int64_t kRows = 128, kMostRows = 256, kLeastRows = 48, kOwnCache = 512 * 1024;
    const int64_t weights = s.gates.count * s.hidden * (s.hidden + s.inputs);
    const int64_t times = weights * static_cast<int64_t>(sizeof(T)) / plan.members / kOwnCache;
    rows = kRows * (times + 1);
    if (rows > kMostRows) rows = kMostRows;

    const bool rnn = a.cell == Cell::kRnn;
    const int64_t width = s.units * L, forward = ForwardRoom(a, s, plan).elements;
    int64_t spare = (little(s) > forward ? little(s) : forward) - (plan.teams - 1) * weights;
    const int64_t block = (s.batch + plan.teams - 1) / plan.teams;  // rows of a step of one team
    const int64_t panels = plan.members * kPanelRows * panel_vectors(s) * L;
    const int64_t stride = padded_stride<T>(s.kept_gates);
    const auto fit = [&] { return (spare / plan.teams - panels) / stride - block; };

    const auto packs = [&](int64_t columns) {
      if (!rnn || columns < L) return true;
      const int64_t copy = width * round_up(columns, L);
      spare -= copy;
      if (fit() >= kRows) return true;
      spare += copy;
      return false;
    };
    packs_state = packs(s.hidden);
    packs_input = d.input.data && (dotted(s.inputs) || packs(s.inputs));
    const int64_t most = fit();
    if (most < rows) rows = most;
    if (rows < kLeastRows) rows = kLeastRows;
  }
};

}  // namespace GRADREACH_ISA
}  // namespace gradreach
