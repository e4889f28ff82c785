"""Names the recurrent modules of one model that is known from the start."""

from __future__ import annotations

from weakref import ref

from torch import nn

from gradreach.flow.find import find_recurrent
from gradreach.monitor.guard import Guard
from gradreach.monitor.names import LiveNames

__all__ = ["NamesOf"]


class NamesOf(LiveNames):
    """The recurrent modules of a model; looked for each time a pass is to be sampled.

    Other models of the process, a teacher or an opponent, are none of its business.

    Example:
        >>> model = nn.ModuleDict({"reader": nn.GRU(2, 3)})
        >>> names = NamesOf(model, Guard(lambda: None))
        >>> names.start()
        >>> list(names.values())
        ['reader']
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        super().__init__(guard)
        self._model = ref(model)

    @property
    def models(self) -> list[nn.Module]:
        """The model, while it exists."""
        model = self._model()
        return [] if model is None else [model]

    @property
    def roots(self) -> list[nn.Module]:
        """The model, while it exists."""
        return self.models

    def start(self) -> None:
        """Look for modules that were added since."""
        for model in self.models:
            found = find_recurrent(model)
            for module, name in found.watched.items():
                if module not in self._names:
                    self._names[module] = self._unused(name, model)
            for spot in found.blind:
                self.blind.setdefault(spot.module, spot)
