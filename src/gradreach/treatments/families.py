"""Every treatment there is, by family, and back from its name to the treatment."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from gradreach.treatments.activation import Activation
from gradreach.treatments.adaptive_clipping import PercentileClipping, UnitClipping
from gradreach.treatments.clipping import NormClipping, ValueClipping
from gradreach.treatments.combined import Combined
from gradreach.treatments.cosine import Cosine
from gradreach.treatments.gating import Gating
from gradreach.treatments.initialization import Chrono, ForgetBias, Initialization
from gradreach.treatments.joined_windows import JoinedWindows
from gradreach.treatments.learning_rate import LearningRate
from gradreach.treatments.lr_finder import FoundRate
from gradreach.treatments.plateau import Plateau
from gradreach.treatments.regularization import Omega
from gradreach.treatments.residual import Euler, LearnedResidual, Residual
from gradreach.treatments.skip import Skip
from gradreach.treatments.treatment import Treatment, TreatmentError
from gradreach.treatments.truncation import DetachedState, ShorterGradient, UndoneDetach
from gradreach.treatments.warm_up import WarmUp

__all__ = ["ALL", "treatment_from"]

ALL: dict[str, tuple[type[Treatment], ...]] = {
    "activation": (Activation,),
    "initialization": (Chrono, ForgetBias, Initialization),
    "skip": (Skip,),
    "residual": (Residual, LearnedResidual, Euler),
    "gating": (Gating,),
    "clipping": (NormClipping, PercentileClipping, ValueClipping, UnitClipping),
    "learning_rate": (LearningRate, WarmUp, Cosine, Plateau, FoundRate),
    "truncation": (ShorterGradient, UndoneDetach, DetachedState, JoinedWindows),
    "regularization": (Omega,),
}
"""The concrete treatments of each family, the best known first."""


def treatment_from(plain: Treatment | Mapping[str, Any] | str) -> Treatment:
    """Return the treatment that a label or plain data stands for.

    Args:
        plain: A label (``"gating(GRU)"``, ``"gating(GRU) + clipping(norm=1.0)"``), what
            :meth:`.Treatment.to_dict` gave, or a treatment, which is returned as it is.

    Raises:
        TreatmentError: There is no such treatment.

    Example:
        >>> treatment_from("gating(GRU)")
        Gating(cell='GRU')
        >>> treatment_from(Gating("GRU").to_dict()).label
        'gating(GRU)'
    """
    if isinstance(plain, Treatment):
        return plain
    if isinstance(plain, str):
        parts = [_from_label(part.strip()) for part in _parts(plain)]
        return parts[0] if len(parts) == 1 else Combined(tuple(parts))
    if plain["treatment"] == "combined":
        return Combined(tuple(treatment_from(part) for part in plain["parts"]))
    for kind in ALL.get(plain["treatment"], ()):
        if kind.__name__ == plain["class"]:
            return kind.from_arguments(dict(plain["arguments"]))
    raise TreatmentError(
        f"treatment_from(): there is no treatment {plain['class']!r} of family "
        f"{plain['treatment']!r}; the families are {', '.join(ALL)}"
    )


def _parts(label: str) -> list[str]:
    """Split a label at its pluses, but not inside brackets."""
    parts, depth = [""], 0
    for letter in label:
        depth += (letter in "([") - (letter in ")]")
        if letter == "+" and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _word(node: ast.expr) -> Any:
    """Return a bare word (``np-rnn`` is one, too) or a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node).replace(" ", "")


def _from_label(label: str) -> Treatment:
    try:
        call = ast.parse(label, mode="eval").body
        if isinstance(call, ast.Name):
            call = ast.Call(call, [], [])
        match call:
            case ast.Call(func=ast.Name(id=family)):
                pass
            case _:
                raise SyntaxError("it is no name with arguments")
        args = [_word(each) for each in call.args]
        named = {
            each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg is not None
        }
    except (SyntaxError, ValueError) as error:
        raise TreatmentError(
            f"treatment_from(): {label!r} is no treatment's label ({error}); write "
            "family(parameters), gating(GRU) say"
        ) from None
    kinds = ALL.get(family, ())
    if not kinds:
        raise TreatmentError(
            f"treatment_from(): there is no family {family!r}; there is {', '.join(ALL)}"
        )
    troubles = []
    for kind in kinds:
        try:
            made = kind(*args, **named)
        except (TypeError, ValueError, TreatmentError) as error:
            troubles.append(str(error))
            continue
        return made
    raise TreatmentError(
        f"treatment_from(): no treatment of family {family!r} takes {label!r} "
        f"({'; '.join(troubles)}); see docs/reference/treatments.md"
    )
