"""Treatments inside a user's own code: what a patch writes where no plain line says the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from gradreach.treatments.families import treatment_from
from gradreach.treatments.interception import Interception
from gradreach.treatments.treatment import Treatment

__all__ = ["treat", "treated"]

P = ParamSpec("P")
R = TypeVar("R")


def treat(*treatments: Treatment | Mapping[str, Any] | str) -> Interception:
    """Treat whatever this process builds from here on.

    Args:
        treatments: Treatments, their labels, or their plain data.

    Returns:
        The interception, started; as a context manager it ends with the ``with`` block.

    Raises:
        TreatmentError: There is no such treatment, or two of them conflict.

    Example:
        >>> import torch
        >>> with treat("gating(GRU)"):
        ...     layer = torch.nn.RNN(2, 8)
        >>> layer
        GRU(2, 8)
    """
    from gradreach.treatments.combined import Combined

    run = Interception()
    Combined(tuple(treatment_from(each) for each in treatments)).install(run)
    return run.start()


def treated(callee: Callable[P, R], *treatments: Treatment | str) -> Callable[P, R]:
    """Return a callable that does what ``callee`` does, with the layers it builds treated.

    Example:
        >>> import torch
        >>> treated({"rnn": torch.nn.RNN}["rnn"], "gating(GRU)")(2, 8)
        GRU(2, 8)
    """

    @wraps(callee)
    def build(*args: P.args, **kwargs: P.kwargs) -> R:
        with treat(*treatments) as run:
            made = callee(*args, **kwargs)
            run.built(made)
            return made

    return build
