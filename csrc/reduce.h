// Adds the teams' sums up into the caller's arrays.
#pragma once

#include "backward.h"

namespace gradreach {
namespace GRADREACH_ISA {

/// weight[0..n) += the other teams' copies, in this thread's part of it.
template <class T>
void add_copies(T* weight, T* Sums<T>::* copy, const Sums<T>* sums, int teams, int64_t n,
                int thread, int threads) {
  if (!weight) return;
  const int64_t from = thread * n / threads, to = (thread + 1) * n / threads;
  for (int team = 1; team < teams; ++team) {
    const T* const other = sums[team].*copy;
    for (int64_t i = from; i < to; ++i) weight[i] += other[i];
  }
}

template <class T, class S>
double total(S* Sums<T>::* field, const Sums<T>* sums, int teams, int64_t i) {
  double sum = 0.0;
  for (int team = 0; team < teams; ++team) sum += static_cast<double>((sums[team].*field)[i]);
  return sum;
}

/// Everything but the large weights: biases, a narrow W_ih, what belongs to the remedies.
template <class T>
void add_small(const Layer& a, const Gradients& d, const Shape<T>& s, const Sums<T>* sums,
               int teams) {
  constexpr int L = Shape<T>::L;
  const bool narrow = d.weight_ih && !sums[0].weight_ih;
  const int64_t last = narrow ? s.inputs : 0;
  const auto of_gate = [&](int64_t row, int at, int g, int64_t unit) {
    const int64_t place = (unit / L * s.gates.group + at + g) * L + unit % L;
    return static_cast<T>(total(&Sums<T>::inputs, sums, teams, row * s.kept_gates + place));
  };
  for (int g = 0; g < s.gates.count; ++g)
    for (int64_t unit = 0; unit < s.hidden; ++unit) {
      const int64_t of_input = s.gates.input_gate[g] * s.hidden + unit;
      const int64_t of_state = s.gates.state_gate[g] * s.hidden + unit;
      if (d.bias_ih)
        static_cast<T*>(d.bias_ih)[of_input] = of_gate(last, s.gates.input_at, g, unit);
      if (d.bias_hh)
        static_cast<T*>(d.bias_hh)[of_state] = of_gate(last, s.gates.state_at, g, unit);
      for (int64_t i = 0; narrow && i < s.inputs; ++i)
        static_cast<T*>(d.weight_ih)[of_input * s.inputs + i] =
            of_gate(i, s.gates.input_at, g, unit);
    }
  for (int64_t unit = 0; unit < s.hidden; ++unit) {
    const auto sum = [&](T* Sums<T>::* field, int64_t i) {
      return static_cast<T>(total(field, sums, teams, i));
    };
    if (d.scale) static_cast<T*>(d.scale)[unit] = sum(&Sums<T>::scale, unit);
    if (d.activation_bias)
      static_cast<T*>(d.activation_bias)[unit] = sum(&Sums<T>::activation_bias, unit);
    for (int64_t j = 0; d.carries && j < a.skip_count; ++j)
      static_cast<T*>(d.carries)[j * s.hidden + unit] =
          sum(&Sums<T>::carries, j * s.units * L + unit);
    if (d.slope_low) d.slope_low[unit] = total(&Sums<T>::slope_low, sums, teams, unit);
    if (d.slope_max) {
      double most = 0.0;
      for (int team = 0; team < teams; ++team)
        if (!(sums[team].slope_max[unit] <= most)) most = sums[team].slope_max[unit];
      d.slope_max[unit] = most;
    }
    // Only real gates: the sums of n and of GRU's q stay behind.
    for (int g = 0; d.gate_sums && g < s.gates.count; ++g) {
      const int64_t place = (unit / L * s.gates.group + s.gates.input_at + g) * L + unit % L;
      d.gate_sums[s.gates.input_gate[g] * s.hidden + unit] =
          total(&Sums<T>::gates, sums, teams, place);
    }
  }
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
