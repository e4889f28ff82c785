// The whole forward and the whole backward of a layer: memory, packing, threads.
#pragma once

#include "forward.h"
#include "reduce.h"

namespace gradreach {
namespace GRADREACH_ISA {

inline int64_t rows_of(const Layer& a) {
  return a.offsets ? a.offsets[a.steps] : a.steps * a.batch;
}

/// Calls lay(arena) twice: to count, and with that much memory. False: there is none.
template <class F>
bool with_memory(F&& lay) {
  Arena counted;
  lay(counted);
  char* const memory = static_cast<char*>(workspace_acquire(counted.used));
  if (!memory) return false;
  Arena arena{memory, 0};
  lay(arena);
  workspace_release(memory);
  return true;
}

template <class T>
bool forward(const Layer& a) {
  using Work = Forward<T>;
  const int64_t rows = rows_of(a);
  if (rows == 0 || a.hidden_size == 0) return true;
  const Shape<T> s(a);
  const Time time(a);
  const Plan plan = plan_of(a, s, rows);
  const Tiling tiling{s.units, plan.members, a.cell == Cell::kRnn};
  const ForwardRoom room(a, s, plan);

  return with_memory([&](Arena& arena) {
    const bool dry = arena.base == nullptr;
    ForwardWeights<T> weights(a, room, s, arena, dry);
    Arena teams[kMostThreads];  // where each team's memory begins
    for (int team = 0; team < plan.teams; ++team) {
      teams[team] = arena;
      Work work(a, s, weights, tiling, room, block_of(time, rows, team, plan.teams), Member{});
      work.take_shared(arena);
      for (int m = 0; m < plan.members; ++m) work.take_own(arena);
    }
    if (dry) return;

    weights.pack_biases(a, s);
    Barrier barriers[kMostThreads];
    const auto pack = [&](int team, const Member& member) {
      int64_t turn = 0;
      tiling.each(member, [&](int64_t unit, int units) {
        if (turn++ % plan.teams != team) return;
        const int64_t column = unit * s.gates.count * Shape<T>::L;
        if (weights.input)
          pack_transposed(s, s.gates.input_gate, static_cast<const T*>(a.weight_ih), s.inputs, unit,
                          units, weights.input + column * s.inputs);
        if (weights.state)
          pack_transposed(s, s.gates.state_gate, static_cast<const T*>(a.weight_hh), s.hidden, unit,
                          units, weights.state + column * s.hidden);
      });
    };
    if (weights.input || weights.state) on_threads(plan, barriers, pack);
    on_threads(plan, barriers, [&](int team, const Member& member) {
      Work work(a, s, weights, tiling, room, block_of(time, rows, team, plan.teams), member);
      Arena own = teams[team];
      work.take_shared(own);
      for (int m = 0; m <= member.rank; ++m) work.take_own(own);
      work.run();
    });
  });
}

/// Without a sequence the sums over them are 0; what has a row of its own for each has none.
template <class T>
void clear_sums(const Layer& a, const Gradients& d, const Shape<T>& s) {
  const int64_t gates = s.gates.count * s.hidden;
  const auto clear = [](void* place, int64_t n, size_t size) {
    if (place) std::memset(place, 0, static_cast<size_t>(n) * size);
  };
  clear(d.weight_ih, gates * s.inputs, sizeof(T));
  clear(d.weight_hh, gates * s.hidden, sizeof(T));
  clear(d.bias_ih, gates, sizeof(T));
  clear(d.bias_hh, gates, sizeof(T));
  clear(d.scale, s.hidden, sizeof(T));
  clear(d.carries, a.skip_count * s.hidden, sizeof(T));
  clear(d.activation_bias, s.hidden, sizeof(T));
  clear(d.slope_max, s.hidden, sizeof(double));
  clear(d.slope_low, s.hidden, sizeof(double));
  clear(d.gate_sums, gates, sizeof(double));
}

template <class T>
bool backward(const Layer& a, const Gradients& d) {
  using Work = Backward<T>;
  const int64_t rows = rows_of(a);
  if (a.hidden_size == 0) return true;
  const Shape<T> s(a);
  if (rows == 0) {
    clear_sums(a, d, s);
    return true;
  }
  const Time time(a);
  const Plan plan = plan_of(a, s, rows);
  const Tiling tiling{s.units, plan.members, true};
  const Room room(a, d, s, plan);

  return with_memory([&](Arena& arena) {
    const bool dry = arena.base == nullptr;
    BackwardWeights<T> weights(a, room, s, arena, dry);
    Arena teams[kMostThreads];
    for (int team = 0; team < plan.teams; ++team) {
      teams[team] = arena;
      Work work(a, d, s, weights, tiling, room, block_of(time, rows, team, plan.teams), team,
                Member{});
      work.take_shared(arena);
      for (int m = 0; m < plan.members; ++m) work.take_own(arena);
    }
    if (dry) return;

    Barrier barriers[kMostThreads];
    Sums<T> sums[kMostThreads];
    const int64_t depth = s.units * s.gates.count * Shape<T>::L;
    const auto pack = [&](int team, const Member& member) {
      int64_t turn = 0;
      tiling.each(member, [&](int64_t unit, int units) {
        if (!weights.state || turn++ % plan.teams != team) return;
        pack_plain(s, s.gates.state_gate, static_cast<const T*>(a.weight_hh), s.hidden, unit, units,
                   weights.state + unit * Shape<T>::L * depth);
      });
      if (!weights.input) return;
      if (dotted(s.inputs)) {
        if (team == 0 && member.rank == 0)
          pack_columns(s, s.gates.input_gate, static_cast<const T*>(a.weight_ih), s.inputs,
                       weights.input);
        return;
      }
      const Split tiles = wide_tiles((s.inputs + Shape<T>::L - 1) / Shape<T>::L);
      const int sharers = plan.teams * member.size, thread = team * member.size + member.rank;
      for (int64_t i = thread; i < tiles.parts; i += sharers)
        pack_plain(s, s.gates.input_gate, static_cast<const T*>(a.weight_ih), s.inputs,
                   tiles.begin(i), static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)),
                   weights.input + tiles.begin(i) * Shape<T>::L * depth);
    };
    if (weights.state || weights.input) on_threads(plan, barriers, pack);
    on_threads(plan, barriers, [&](int team, const Member& member) {
      Work work(a, d, s, weights, tiling, room, block_of(time, rows, team, plan.teams), team,
                member);
      Arena own = teams[team];
      work.take_shared(own);
      for (int m = 0; m <= member.rank; ++m) work.take_own(own);
      if (member.rank == 0) sums[team] = work.sums;
      work.run();
    });
    const int64_t gates = s.gates.count * s.hidden;
    const auto add_up = [&](int team, const Member& member) {
      const int sharers = plan.teams * member.size, thread = team * member.size + member.rank;
      add_copies(sums[0].weight_hh, &Sums<T>::weight_hh, sums, plan.teams, gates * s.hidden, thread,
                 sharers);
      add_copies(sums[0].weight_ih, &Sums<T>::weight_ih, sums, plan.teams, gates * s.inputs, thread,
                 sharers);
      if (thread == 0) add_small(a, d, s, sums, plan.teams);
    };
    if (plan.teams > 1)
      on_threads(plan, barriers, add_up);
    else
      add_up(0, Member{});
  });
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
