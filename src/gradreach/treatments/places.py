"""Notes the places of a script that patches are written at, with what they have to know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.optim import Optimizer

from gradreach.treatments.interception import Interception
from gradreach.treatments.own_clipping import ClipCallsPatch
from gradreach.treatments.sites import Site, caller, site_at

__all__ = ["OWN_RATES", "RATE_SET", "STATE_DETACH", "Places", "note_places"]

STATE_DETACH = "state-detach"  # noted where the script cuts a state off its graph
OWN_RATES = "own-rates"  # noted where a group of parameters has a learning rate of its own
RATE_SET = "rate-set"  # noted where the script changes a learning rate between two steps

_known: WeakKeyDictionary[Interception, Places] = WeakKeyDictionary()


def note_places(run: Interception) -> Places:
    """Have a run note, beyond layers and optimizers, what treatments of the steps are written at.

    The kinds of its sites: ``"update"``, where an optimizer is stepped (``scaler`` among its
    numbers: by a ``GradScaler`` that is called there); ``"clip"``, where the script clips;
    ``"script"``, the file that Python was started with; ``"own-rates"`` and ``"rate-set"``, which
    have no place. Nothing of the run changes. Asking twice is asking once.

    Example:
        >>> import torch
        >>> with Interception() as run:
        ...     _ = note_places(run)
        ...     optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        ...     optimizer.step()
        >>> [site.kind for site in run.sites if site.kind != "script"]
        ['optimizer', 'update']
    """
    places = _known.get(run)
    if places is None:
        places = _known[run] = Places(run)
    return places


class Places:
    """What notes the places of one run.

    Attributes:
        clips: What sees the script's own clipping.
    """

    def __init__(self, run: Interception) -> None:
        self.clips = ClipCallsPatch(run.note)
        self._note = run.note
        run.patching(self.clips)
        self._sizes: set[int] = set()
        run.on_built_layer(self._built_layer)
        run.on_optimizer(self._built)
        run.around_step(self._step)

    def watch_detaches(self, run: Interception) -> None:
        """Note as ``"state-detach"`` where what may be a state is cut off its graph.

        Told by its last dimension, that of a layer's state; ``loss.detach()`` has none. Each
        detach of the script's is looked at, so this is for the untreated run.
        """

        def look(tensor: Tensor, site: Site) -> bool:
            if tensor.dim() >= 2 and tensor.shape[-1] in self._sizes:
                self._note(replace(site, kind=STATE_DETACH))
            return False

        run.on_detach(look)

    def _built_layer(self, layer: nn.Module) -> None:
        self._note_script()
        state_size = getattr(layer, "proj_size", 0) or getattr(layer, "hidden_size", 0)
        self._sizes |= {state_size, getattr(layer, "hidden_size", 0)}

    def _built(self, optimizer: Optimizer) -> None:
        self._note_script()
        rate = optimizer.defaults.get("lr")
        if any(group.get("lr") != rate for group in optimizer.param_groups):
            self._note(_nowhere(OWN_RATES))
        last: list[list[Any]] = []

        def before(its: Optimizer, args: Any, options: Any) -> None:
            rates = [group.get("lr") for group in its.param_groups]
            if last and rates != last[0]:
                self._note(_nowhere(RATE_SET))
            last[:] = [rates]

        optimizer.register_step_pre_hook(before)

    def _step(self, optimizer: Optimizer, step: Callable[[], Any]) -> Any:
        frame = caller()
        numbers = {"scaler": _scaled(sys._getframe(), frame)}
        self._note(site_at(frame, "update", type(optimizer).__qualname__, numbers=numbers))
        return step()

    def _note_script(self) -> None:
        file = str(getattr(sys.modules.get("__main__"), "__file__", "") or "")
        if file:
            self._note(Site("script", "", file, 1, 0, 1, 0, "<module>"))


def _nowhere(kind: str) -> Site:
    return Site(kind, "", "", 0, 0, 0, 0, "")


def _scaled(frame: FrameType | None, until: FrameType | None) -> bool:
    """Whether a scaler stands between a step and the user's frame."""
    while frame is not None and frame is not until:
        if frame.f_globals.get("__name__") == "torch.amp.grad_scaler":
            return True
        frame = frame.f_back
    return False
