"""Turns passes and optimizer steps into rows of a history."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from gradreach.monitor.clip_calls import ClipCalls, ClipRow
from gradreach.monitor.local_gradient import LocalGradient
from gradreach.monitor.parameters import WatchedParameters
from gradreach.monitor.reached import GradientArrivals
from gradreach.monitor.row_pace import RowPace
from gradreach.monitor.vectors import Number, cosine, distance, flat, norm, settle, unit

__all__ = ["StepRows"]

NAN = float("nan")


@dataclass
class OpenRow:
    """What is known so far of the step to come, or of one that has just been made.

    Args:
        due: Whether it is recorded; a row that is not keeps its losses only.
        losses: Of its passes, unscaled. norm: of the gradient after the latest, before clipping.
        before: The weights before the step. gradient: as the optimizer got it.
        made: The optimizer has made the step; another may go on with it.
        taken: Not all of them were kept from it.
    """

    due: bool
    losses: list[Number] = field(default_factory=list)
    norm: Number = NAN
    inner: int = 0  # passes that a closure made within the step
    before: Tensor | None = None
    gradient: Tensor | None = None
    gradient_norm: Number = NAN
    rate: float = NAN
    number: int | None = None
    made: bool = False
    taken: bool = False
    clip: ClipRow = field(default_factory=ClipRow)
    direction: Tensor | None = None
    downhill: Tensor | None = None
    numbers: dict[str, Number] = field(default_factory=dict)


class StepRows:
    """Reads ``.grad`` when a pass has returned and when an optimizer begins; weights around it.

    Where nothing is clipped by hand and no optimizer is ever stepped, each pass is a step, and
    what the weights are at the next pass is what it made of them.

    Args:
        parameters: Whose numbers they are.
        pace: Which steps get a row.
        emit: Called with each row, of the columns that were measured.
        clips: What has been clipped.
        factor: Returns what the roots of a pass were multiplied by.
        blocking: Whether the step of an optimizer that is just ending was blocked by us.
        number: Returns how many steps there were of all optimizers; these steps are counted
            where nobody else does.

    Attributes:
        steps: Steps so far, recorded or not.
        clip: What was clipped in the latest row's step.
    """

    def __init__(
        self,
        parameters: WatchedParameters,
        pace: RowPace,
        emit: Callable[[dict[str, float]], None],
        *,
        clips: ClipCalls | None = None,
        factor: Callable[[Any], float] = lambda roots: 1.0,
        blocking: Callable[[Optimizer], bool] = lambda optimizer: False,
        number: Callable[[], int] | None = None,
    ) -> None:
        self.parameters, self.pace, self.emit = parameters, pace, emit
        self.clips, self.factor, self.blocking, self.number = clips, factor, blocking, number
        self.steps = 0
        self.clip = ClipRow()
        self.by_hand = False
        self._arrivals = GradientArrivals()
        self._local = LocalGradient()
        self._open: OpenRow | None = None
        self._optimizers = 0  # the most that stepped at one point
        self._here = 0
        self._stepped = False  # by an optimizer, ever
        self._inside = False
        self._foreign = False  # the optimizer that steps moves none of these parameters
        self._factor = 1.0  # of the pass that runs
        self._started = time.perf_counter()
        self._at_start: Tensor | None = None
        self._last_update: Tensor | None = None  # directions, of the step before
        self._last_gradient: Tensor | None = None
        self._measured_step = -2  # the step they are of

    # ---- passes

    def begin_pass(self, roots: Any) -> None:
        """A backward pass is about to run."""
        self._factor = self.factor(roots)
        self._arrivals.begin(self.parameters.all)
        if self.pace.due(self.steps):
            self._local.begin(self.parameters.all)

    def end_pass(self, loss: Tensor | None) -> bool:
        """A backward pass has returned; whether it was one of ours."""
        self.parameters.meet()
        own = self._local.end()
        if not self._arrivals.end(self.parameters.all):
            return False
        self._note_start()
        factor = self._factor
        if not self._stepped and not self._inside:
            self._look_by_hand()
        if self.clips is not None:
            self.clips.passed()
        if self._open is not None and self._open.made and not self._inside:
            self._close()
        row = self._row()
        value = NAN if loss is None else _number(loss)
        if self._inside:
            row.inner += 1
            if row.inner > 1:
                return True  # a line search: the step is told by where it began
            row.losses.clear()
        row.losses.append(value / factor)
        # Of several passes it is the sum that is averaged, and no norm of it was seen.
        one = own is not None and len(row.losses) == 1
        row.numbers["local_gradient_norm"] = own / factor if one and own is not None else NAN
        if row.due:
            self._see_gradient(row, factor)
        return True

    def _see_gradient(self, row: OpenRow, factor: float) -> None:
        """Take the norm after a pass: before any clipping, and averaged over ranks by then."""
        assert self._at_start is not None
        found = self.parameters.gradient(self._at_start)
        if found is None:
            return
        row.norm = found[1] / factor
        row.numbers["nonfinite"] = self.parameters.nonfinite(found[1])
        if self._inside:
            row.gradient, row.gradient_norm = found[0], row.norm
        elif not self._stepped:  # there may be no optimizer: the next pass will tell
            row.before, row.gradient, row.gradient_norm = self._weights(), found[0], row.norm

    def _row(self) -> OpenRow:
        if self._open is None:
            undecided = not self._stepped and not self.by_hand
            self._open = OpenRow(due=undecided or self.pace.due(self.steps))
        return self._open

    def _note_start(self) -> None:
        if self._at_start is None or self._at_start.numel() != self.parameters.size:
            self._at_start = flat(self.parameters.followed)
            self._last_update = self._last_gradient = None

    def _weights(self) -> Tensor:
        return flat(self.parameters.followed, like=self._at_start)

    # ---- steps

    def before_step(self, optimizer: Optimizer, new: bool) -> None:
        """An optimizer is about to step."""
        self.parameters.stepped_by(optimizer)
        self._foreign = not self.parameters.moved_by(optimizer)
        if self._foreign:
            return
        self._note_start()
        if new and self._open is not None and self._open.made:
            self._close()
        row = self._row()
        self._inside, self._stepped = True, True
        self._here = 1 if new else self._here + 1
        self._optimizers = max(self._optimizers, self._here)
        if row.number is None and self.number is not None:
            row.number = self.number()
        rates = [float(group.get("lr", NAN)) for group in optimizer.param_groups]
        row.rate = max((rate for rate in [row.rate, *rates] if rate == rate), default=NAN)
        if not row.due:
            return
        if row.before is None or not row.made:
            row.before = self._weights()
        self._take_gradient(row, _still_in(optimizer))

    def _take_gradient(self, row: OpenRow, factor: float = 1.0) -> None:
        assert self._at_start is not None
        found = self.parameters.gradient(self._at_start)
        if found is None:
            return
        row.gradient, row.gradient_norm = found[0], found[1] / factor
        row.downhill = None
        if "nonfinite" not in row.numbers:
            row.numbers["nonfinite"] = self.parameters.nonfinite(found[1])

    def after_step(self, optimizer: Optimizer, new: bool) -> None:
        """An optimizer has made its step."""
        if self._foreign:
            return
        row, self._inside = self._row(), False
        row.made = True
        row.taken |= not (_kept_back(optimizer) or self.blocking(optimizer))
        self._take_clip(row)
        if row.due:
            if row.inner == 1:
                self._take_gradient(row)  # the closure may have clipped it
            self._measure(row, self._weights())
        # Another optimizer may go on with this step, unless there has never been one.
        if self._optimizers == 1 and self.steps > 1:
            self._close()

    def skipped(self, new: bool) -> None:
        """A scaler has kept an optimizer from its step."""
        if new and self._open is not None and self._open.made:
            self._close()
        row = self._row()
        if row.number is None and self.number is not None:
            row.number = self.number() - new
        row.made = self._stepped = True
        self._take_clip(row)

    def _take_clip(self, row: OpenRow) -> None:
        """Read what was clipped for this step, by the optimizer whose turn it is last."""
        found = ClipRow() if self.clips is None else self.clips.taken()
        if found.calls or not row.clip.calls:
            row.clip = found

    # ---- rows

    def _measure(self, row: OpenRow, after: Tensor) -> None:
        """Compare the weights with what they were before the step."""
        if row.before is None or row.before.numel() != after.numel() or not after.numel():
            return
        assert self._at_start is not None
        update = after - row.before
        length = norm(update)
        direction = unit(update, length)
        row.numbers |= {
            "update_norm": length,
            "weight_norm": norm(row.before),
            "distance": distance(after, self._at_start),
        }
        follows = self._measured_step == self.steps - 1
        if row.gradient is not None:
            if row.downhill is None:
                row.downhill = unit(row.gradient, norm(row.gradient))
            row.numbers["descent_cosine"] = -cosine(row.downhill, direction)
            if follows and self._last_gradient is not None:
                row.numbers["gradient_cosine"] = cosine(row.downhill, self._last_gradient)
        if follows and self._last_update is not None:
            row.numbers["update_cosine"] = cosine(direction, self._last_update)
        row.direction = direction

    def _close(self) -> None:
        """The open row is complete."""
        row, self._open = self._open, None
        if row is None:
            return
        if row.due:
            self._last_update, self._last_gradient = row.direction, row.downhill
            self._measured_step = self.steps
            self.clip = row.clip
            self.emit(self._finished(row))
        self.steps += 1

    def _finished(self, row: OpenRow) -> dict[str, float]:
        numbers: dict[str, Number] = {
            "loss": sum(row.losses) / len(row.losses) if row.losses else NAN,
            "gradient_norm": row.norm,
            "clipped_norm": row.gradient_norm,
            "taken": float(row.taken),
            "clip_calls": float(row.clip.calls),
            "clip_threshold": row.clip.threshold,
            "clip_seen": row.clip.seen,
            "clip_order": float(row.clip.order),
            **row.numbers,
        }
        found = settle(numbers)
        if found["gradient_norm"] != found["gradient_norm"] and not row.losses:
            found["gradient_norm"] = found["clipped_norm"]  # no pass was seen: autograd.grad, say
        return {
            "step": float(self.steps if row.number is None else row.number),
            "passes": float(row.inner or len(row.losses)),
            "seconds": time.perf_counter() - self._started,
            "learning_rate": row.rate,
            **found,
        }

    def close(self) -> None:
        """The watch ends: what is known of the last step is its row."""
        self._local.forget()
        if self._open is None:
            return
        if not self._stepped:
            self._look_by_hand()
        elif self._open.made:
            self._close()

    def _look_by_hand(self) -> None:
        """No optimizer has ever stepped: where the weights have moved since, that was a step."""
        row = self._open
        if row is None:
            return
        if row.before is None:
            if self.by_hand:
                self._close()
            return
        after = self._weights()
        if torch.equal(after, row.before):
            return
        self.by_hand = row.taken = True
        self._take_clip(row)
        self._measure(row, after)
        self._close()


def _number(loss: Tensor) -> Number:
    """Return a loss at once where that costs nothing."""
    return loss.item() if loss.is_cpu else loss.detach().clone()


def _still_in(optimizer: Optimizer) -> float:
    """Return the factor that a fused optimizer takes out of its gradients itself."""
    factor = getattr(optimizer, "grad_scale", None)
    return 1.0 if factor is None else float(factor)


def _kept_back(optimizer: Optimizer) -> bool:
    """Whether a scaler has told a fused optimizer to change nothing."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and float(found) > 0.0
