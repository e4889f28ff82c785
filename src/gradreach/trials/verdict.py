"""Which treatment won, and what is to be said of it in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradreach.records.effect import Effect
from gradreach.records.standing import Standing

__all__ = ["sentence_of", "winner_of"]


def winner_of(standings: Sequence[Standing]) -> Standing | None:
    """Return the treatment that helped most; ``None`` where none was shown to help.

    It must be better than the control beyond the margin, for all treatments at once. Among those,
    one that meets the criterion on more seeds comes first. Where the control meets the criterion
    on every seed, nothing needs to be cured and none wins.
    """
    control, *treated = standings
    if _always_met(control):
        return None
    better = [each for each in treated if each.effect is not None and each.effect.better]
    return max(better, key=lambda each: each.met or 0, default=None)  # the first of equals


def sentence_of(metric: str, standings: Sequence[Standing], winner: Standing | None) -> str:
    """Say what helped, by how much, how sure, and at what cost; or that nothing did.

    Args:
        metric: Its name. standings: The control's first. winner: Of :func:`winner_of`.
    """
    control, *treated = standings
    if winner is not None and winner.effect is not None:
        return _helped(metric, control, winner, winner.effect)
    if _always_met(control):
        return (
            f"No treatment is needed: the control meets the criterion on {control.met} of "
            f"{control.seeds} seeds."
        )
    if not treated:
        return "No treatment was tried."
    if not any(each.finished for each in standings if each.dropped is None):
        return (
            "Nothing could be compared: no training finished, neither the control nor with any "
            f"treatment ({_ends(control)})."
        )
    best = next((each for each in treated if each.effect is not None), None)
    told = (
        f"Nothing helped: none of {len(treated)} treatments was shown to make the {metric} better "
        f"than the control's over {control.seeds} seeds"
        if len(treated) > 1
        else f"{treated[0].treatment} did not help: it was not shown to make the {metric} better "
        f"than the control's over {control.seeds} seeds"
    )
    if best is None or best.effect is None:
        return f"{told}."
    name = f"the best, {best.treatment}: " if len(treated) > 1 else ""
    return f"{told} ({name}{_how_much(best.effect)})."


def _ends(control: Standing) -> str:
    told = ", ".join(f"{many} × {name}" for name, many in control.outcomes.items())
    return f"control: {told}; the log of each trial in the study folder says why"


def _helped(metric: str, control: Standing, winner: Standing, effect: Effect) -> str:
    if math.isnan(effect.estimate):
        parts = [
            f"{winner.treatment} helps: it finishes on {winner.finished} of {winner.seeds} seeds "
            f"(median {metric} {winner.median:.3g}), the control on {control.finished}"
        ]
    else:
        parts = [f"{winner.treatment} helps: {metric} {_how_much(effect)}"]
    parts.append(
        f"better on {effect.wins} of {effect.pairs} seeds, which a coin does "
        f"{_one_in(effect.chance)}"
    )
    if winner.met is not None:
        parts.append(
            f"criterion met on {winner.met} of {winner.seeds} seeds, by the control on "
            f"{control.met}"
        )
    if math.isfinite(winner.relative_cost):
        parts.append(f"at {winner.relative_cost:.2g} times the control's time")
    return "; ".join(parts) + "."


def _how_much(effect: Effect) -> str:
    if math.isnan(effect.estimate):
        return f"it did not finish on {effect.failed} of {effect.pairs} seeds"
    many = f" over {effect.treatments} treatments at once" if effect.treatments > 1 else ""
    return f"{effect}, {effect.confidence:.0%} interval{many}"


def _one_in(chance: float) -> str:
    return f"once in {1 / chance:.3g} times"


def _always_met(control: Standing) -> bool:
    return control.met is not None and control.met == control.seeds > 0
