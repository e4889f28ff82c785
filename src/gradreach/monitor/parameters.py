"""The parameters whose gradient and update a watch follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer

from gradreach.monitor.vectors import Number, flat, local, norm

__all__ = ["FOLLOWED_ENTRIES", "WatchedParameters"]

# Vectors are kept of the weights at the start, of the last update and of the last gradient:
# of five million numbers that is 60 MB, more than one should take unasked.
FOLLOWED_ENTRIES = 5_000_000


class WatchedParameters:
    """All parameters of some models, and those of them of which whole vectors are compared.

    Args:
        models: Returns the models as they are now.
        recurrent: Returns the recurrent modules in them.
        limit: Entries above which only the recurrent modules' parameters are followed.

    Attributes:
        all: For the norms of the gradient.
        followed: For the weights and their updates, and for directions.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 4))
        >>> found = WatchedParameters(lambda: [model], lambda: [model[1]], limit=100)
        >>> len(found.all), len(found.followed), found.described
        (6, 4, "the recurrent layers' parameters")
    """

    def __init__(
        self,
        models: Callable[[], Sequence[nn.Module]],
        recurrent: Callable[[], Iterable[nn.Module]],
        limit: int = FOLLOWED_ENTRIES,
    ) -> None:
        self._models, self._recurrent, self._limit = models, recurrent, limit
        self._known: tuple[int, ...] = ()
        self._lazy = False
        self._sizes: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._moved: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()
        self.all: list[nn.Parameter] = []
        self.followed: list[nn.Parameter] = []
        self.size = 0  # entries of the followed ones
        self.meet()

    @property
    def described(self) -> str:
        """Which ones are followed, in words."""
        if not self.followed:
            return "no parameters"
        whole = len(self.followed) == len(self.all)
        return "all parameters" if whole else "the recurrent layers' parameters"

    def meet(self, again: bool = False) -> None:
        """Look for the parameters, where the models are not those that they were."""
        models = self._models()
        known = tuple(map(id, models))
        if known == self._known and not again and not self._lazy:
            return
        self._known = known
        self._moved.clear()
        every = {id(each): each for model in models for each in model.parameters()}
        self.all = list(filter(_has_entries, every.values()))
        self._lazy = len(self.all) < len(every)
        self.followed = self.all
        if _entries(self.all) > self._limit:
            own = {id(each) for module in self._recurrent() for each in module.parameters()}
            self.followed = [each for each in self.all if id(each) in own]
            if _entries(self.followed) > 4 * self._limit:
                self.followed = []
        self.size = _entries(self.followed)

    def stepped_by(self, optimizer: Optimizer) -> None:
        """An optimizer steps: where it was given other parameters, the model has them too."""
        size = sum(len(group["params"]) for group in optimizer.param_groups)
        if self._sizes.get(optimizer) != size:
            self.meet(again=True)
            self._sizes[optimizer] = size

    def moved_by(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer has some of these parameters."""
        known = self._moved.get(optimizer)
        if known is None:
            own = set(map(id, self.all))
            groups = optimizer.param_groups
            known = any(id(each) in own for group in groups for each in group["params"])
            self._moved[optimizer] = known
        return known

    def gradient(self, like: Tensor) -> tuple[Tensor, Number] | None:
        """Return the gradient of the followed ones, and the norm of that of all.

        ``None`` where none of them has one.
        """
        if all(each.grad is None for each in self.all):
            return None
        zeros = [each.grad if each.grad is not None else torch.zeros_like(each)
                 for each in self.followed]  # fmt: skip
        vector = flat(zeros, like=like)
        if len(self.followed) == len(self.all):
            return vector, norm(vector)
        return vector, self._norm_of_all()

    def _norm_of_all(self) -> Number:
        parts = [norm(local(each.grad).reshape(-1)) for each in self.all if each.grad is not None]
        device = self.all[0].device
        together = [torch.as_tensor(part, dtype=torch.float64, device=device) for part in parts]
        return norm(torch.stack(together))

    def nonfinite(self, length: Number) -> Number:
        """Return how many entries of a gradient of this norm are not finite."""
        if isinstance(length, float) and math.isfinite(length):
            return 0.0
        gradients = [local(each.grad) for each in self.all if each.grad is not None]
        counts = [(~each.isfinite()).sum() for each in gradients]
        if isinstance(length, float):
            return float(sum(map(int, counts)))
        return torch.stack([count.to(length.device) for count in counts]).sum()


def _has_entries(parameter: nn.Parameter) -> bool:
    """Whether a parameter has its shape: one of a lazy layer gets it at the first call."""
    return not is_lazy(parameter)


def _entries(parameters: Iterable[Tensor]) -> int:
    return sum(each.numel() for each in parameters)
