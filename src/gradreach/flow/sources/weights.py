"""The gradient that one backward pass sends to each weight."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from gradreach.flow.sources.hooks import HeldHooks

__all__ = ["WeightGradients"]


class WeightGradients(HeldHooks):
    """Collects the gradient of weights while open, by ``id``.

    The gradient is cloned in a hook on the weight: ``.grad`` would hold what accumulation and
    clipping made of it, and clipping rescales the very storage a hook is handed.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.by_id: dict[int, Tensor | None] = {}
        self._weights = list(weights)
        self._lost: set[int] = set()

    def __enter__(self) -> WeightGradients:
        for weight in self._weights:
            self.watch(weight)
        return self

    def watch(self, weight: Tensor) -> None:
        """Collect the gradient of one more weight."""
        key = id(weight)

        def receive(gradient: Tensor) -> None:
            if key in self._lost:
                return
            try:
                own, before = gradient.detach().clone(), self.by_id.get(key)
                self.by_id[key] = own if before is None else before + own
            except Exception:  # noqa: BLE001  out of memory must not end the user's pass
                self.by_id[key] = None  # as of a weight that takes no gradient
                self._lost.add(key)

        self._handles.append(weight.register_hook(receive))  # type: ignore[no-untyped-call]
