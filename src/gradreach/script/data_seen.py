"""Tells data that the training has seen before from data it has not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["DataSeen", "row_marks"]

CALLS = 512  # of modules in one pass that are looked at: a loop over cells shows its data by then
ENTRIES = 1 << 20  # of one tensor that are looked at
MOST = 1 << 21  # rows that are remembered
WORDS = np.random.default_rng(0x5EED).integers(1, 2**63, ENTRIES, dtype=np.uint64) | np.uint64(1)


class DataSeen:
    """Remembers which rows of data were trained on.

    What modules are called with is data where it depends on no weight. Rows are told apart by a
    checksum over their bits. A loss on rows that were trained on before says how well they are
    known by heart; on rows that were not, how well the task is.

    Attributes:
        share: Share of the rows in each backward pass, in their order, that had been seen before.
    """

    def __init__(self) -> None:
        self.share: list[float] = []
        self._known: set[int] = set()
        self._marks: NDArray[np.uint64] | None = None
        self._last: tuple[int, int] | None = None
        self._calls = 0
        self._grad = True
        self._loops = False  # a pass showed its data in several calls
        self._batch = 0  # dimension of the rows: 1 once a time-major layer was met
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Look at what modules are called with from here on."""
        self._handle = nn.modules.module.register_module_forward_pre_hook(self._called)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()

    def trained(self) -> None:
        """A backward pass has begun: what was met since the last one is trained on now."""
        self._loops = self._loops or self._calls > 1
        marks, known = self._taken(), self._known
        if marks is None:
            self.share.append(float("nan"))
            return
        rows = set(marks.tolist())
        self.share.append(len(rows & known) / len(rows))
        if len(known) < MOST:
            known |= rows

    def evaluated(self) -> bool | None:
        """Whether the data met since the last call was never trained on; ``None`` if unknown.

        A loop over cells shows its steps one by one, which are no data by themselves.
        """
        marks = self._taken()
        if marks is None or self._loops:
            return None
        rows = set(marks.tolist())
        return len(rows & self._known) * 2 < len(rows)

    def _called(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._calls >= CALLS or not args or torch.compiler.is_compiling():
            return
        given = args[0]
        if not isinstance(given, Tensor):
            return
        if isinstance(module, nn.RNNBase) and given.dim() == 3:
            self._batch = 0 if module.batch_first else 1
        if given.requires_grad or given.dim() < 1:
            return
        grad = torch.is_grad_enabled()
        if grad is not self._grad:
            self._taken()
            self._grad = grad
        if self._calls and not grad:
            return  # without a graph nothing tells data from what layers made of it
        place = (given.data_ptr(), given.numel())  # a view of it shows nothing new
        if place == self._last:
            return
        self._last = place
        self._calls += 1
        marks = row_marks(given.transpose(0, 1) if self._batch and given.dim() > 1 else given)
        if marks is None:
            return
        if self._marks is None:
            self._marks = marks
        elif len(self._marks) == len(marks):
            self._marks = self._marks * np.uint64(0x9E3779B97F4A7C15) + marks

    def _taken(self) -> NDArray[np.uint64] | None:
        marks, self._marks, self._last, self._calls = self._marks, None, None, 0
        return marks


def row_marks(data: Tensor) -> NDArray[np.uint64] | None:
    """Return a checksum of each row along the first dimension; ``None`` where it has no bits.

    Example:
        >>> one, other, again = row_marks(torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
        >>> bool(one == again), bool(one == other)
        (True, False)
    """
    if data.is_sparse or data.layout is not torch.strided or not data.numel():
        return None
    try:
        flat = data.detach().reshape(len(data), -1)[:, :ENTRIES].contiguous().cpu()
        bits = flat.view(torch.uint8).numpy()
    except (RuntimeError, TypeError, NotImplementedError):  # functorch, quantised, meta
        return None
    rest = -bits.shape[1] % 4
    if rest:
        bits = np.pad(bits, ((0, 0), (0, rest)))
    words = bits.view(np.uint32).astype(np.uint64)
    mixed = (words ^ (words << np.uint64(29))) * WORDS[: words.shape[1]]
    marks: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(31))).sum(1, dtype=np.uint64)
    return marks
