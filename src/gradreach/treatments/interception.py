"""Stands between a training script and torch, in a process of its own, while it runs.

Nothing of the user's is edited: constructors, optimizer steps, backward calls and detaches pass
through here, and treatments change what passes. See docs/decisions/0012.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradreach.treatments.backward_patch import BackwardPatch
from gradreach.treatments.detach_patch import DetachPatch
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_patch import LayerPatch
from gradreach.treatments.optimizer_patch import OptimizerPatch
from gradreach.treatments.sites import Site

__all__ = ["Interception", "Patching"]


class Patching(Protocol):
    """Something of torch's that is replaced between two calls."""

    def start(self) -> None:
        """Put it in place."""

    def stop(self) -> None:
        """Put torch's back."""


class Interception:
    """What treatments are installed into.

    Patches torch only between :meth:`start` and :meth:`stop` (or within ``with``), and only what
    somebody asked to see, except that recurrent layers and optimizers are always noted as
    :attr:`sites`.

    Attributes:
        sites: Every place that was met, once each, in the order of the first meeting.

    Example:
        >>> import torch
        >>> with Interception() as run:
        ...     run.on_layer(lambda call: call.becoming("gru") if call.kind == "rnn" else None)
        ...     rnn = torch.nn.RNN(2, 3)
        >>> type(rnn).__name__, run.sites[0].what
        ('GRU', 'torch.nn.RNN')
        >>> type(torch.nn.RNN(2, 3)).__name__
        'RNN'
    """

    def __init__(self) -> None:
        self._sites: dict[tuple[Any, ...], Site] = {}
        self._layers = LayerPatch(self.note)
        self._optimizers = OptimizerPatch(self.note)
        self._backward = BackwardPatch(self.note)
        self._detach = DetachPatch(self.note)
        self._others: list[Patching] = []
        self._started: list[Patching] = []
        self._running = False

    @property
    def sites(self) -> list[Site]:
        """The places met so far."""
        return list(self._sites.values())

    def on_layer(self, rewrite: Callable[[LayerCall], LayerCall | None]) -> None:
        """Rewrite the construction of torch's recurrent layers and cells.

        ``rewrite`` is given each call as those before it have left it, and returns another, or
        ``None`` to leave it. Subclasses of the user's own are never rewritten.
        """
        self._layers.rewrites.append(rewrite)

    def on_built_layer(self, act: Callable[[nn.Module], None]) -> None:
        """Call ``act`` with each recurrent layer or cell, right after it has been built.

        Not with those of subclasses of the user's own.
        """
        self._layers.built.append(act)

    def built(self, made: object) -> None:
        """Show a layer of gradreach's own to those who want to see each: none of torch's is built.

        A patch names ``gradreach.nn.RNN`` where the trial had torch's constructor intercepted.
        """
        if isinstance(made, nn.Module) and type(made).__module__.startswith("gradreach.nn"):
            for act in self._layers.built:
                act(made)

    def on_optimizer(self, act: Callable[[Optimizer], None]) -> None:
        """Call ``act`` with each optimizer, right after torch has built it."""
        self._optimizers.built.append(act)

    def before_step(self, act: Callable[[Optimizer], None]) -> None:
        """Call ``act`` right before an optimizer uses its gradients.

        With a closure that is each time the closure has returned. Under a ``GradScaler`` the
        gradients are unscaled by then.
        """
        self._optimizers.before.append(act)

    def around_step(self, wrap: Callable[[Optimizer, Callable[[], Any]], Any]) -> None:
        """Let ``wrap(optimizer, step)`` run each step; it calls ``step()`` or leaves it out."""
        self._optimizers.around.append(wrap)

    def on_backward(self, act: Callable[[Tensor], Tensor | None]) -> None:
        """Call ``act`` with what ``backward`` is called on; it may return another loss instead."""
        self._backward.acts.append(act)
        self._start_late(self._backward)

    def on_detach(self, keep: Callable[[Tensor, Site], bool]) -> None:
        """Ask ``keep`` at each detach in the user's code; where it says True, none happens."""
        self._detach.acts.append(keep)
        self._start_late(self._detach)

    def patching(self, patch: Patching) -> None:
        """Start a treatment's own patch together with the others, and stop it with them."""
        self._others.append(patch)
        if self._running:
            self._start(patch)

    def note(self, site: Site) -> None:
        """Add a site, unless it is known; a reason why it was left replaces none."""
        key = (site.kind, site.what, *site.span)
        known = self._sites.get(key)
        if known is None or (site.left and not known.left):
            self._sites[key] = site

    def start(self) -> Self:
        """Put everything in place."""
        if not self._running:
            self._running = True
            every: list[Patching] = [self._layers, self._optimizers, *self._others]
            for patch in every:
                self._start(patch)
            self._start_late(self._backward)
            self._start_late(self._detach)
        return self

    def stop(self) -> None:
        """Leave torch as it was; layers and optimizers already built stay what they are."""
        self._running = False
        while self._started:  # the last first: two may have replaced the same function
            self._started.pop().stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _start_late(self, patch: BackwardPatch | DetachPatch) -> None:
        if self._running and patch.acts:
            self._start(patch)

    def _start(self, patch: Patching) -> None:
        if patch not in self._started:
            self._started.append(patch)
            patch.start()
