"""One watched run: samples become records and findings, and both become files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gradreach.diagnosis.diagnose import diagnose
from gradreach.diagnosis.order import sort_key
from gradreach.flow.analyse import analyse
from gradreach.flow.find import class_name
from gradreach.monitor.cadence import Cadence
from gradreach.monitor.passes import PassWatch, SampledPass
from gradreach.records import BlindSpot, Finding, GradientFlow
from gradreach.records.sighting import Sighting
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder

__all__ = ["Session", "SessionOptions"]

NEVER_REACHED = (
    "no sampled pass reached it: it was called where no gradient is recorded, or the loss does not "
    "depend on it, or torch.compile took it in (TORCHDYNAMO_DISABLE=1 keeps it out)"
)
LAG_PROBES = 4  # loss steps followed in each sample: the first samples show whether four do


@dataclass(frozen=True)
class SessionOptions:
    """How a run is watched.

    Args:
        every: Sample one pass of so many; ``None`` adapts to the measured cost.
        needs_lag: How far back the task must look, if the user knows.
        steps: Stop the script after so many optimizer steps (passes, where it takes none).
    """

    every: int | None = None
    needs_lag: int | None = None
    steps: int | None = None


class Session:
    """Collects what the watch samples.

    Args:
        folder: Where records are written as they come.
        enough: Called, inside the script, once ``options.steps`` are done.
    """

    def __init__(
        self, folder: RunFolder, options: SessionOptions, enough: Callable[[], None]
    ) -> None:
        self.folder, self.options, self.enough = folder, options, enough
        self.watch = PassWatch(self.take, Cadence(options.every), self._count)
        self.sightings: dict[tuple[str, str], Sighting] = {}
        self.flows: list[tuple[int, GradientFlow]] = []  # (step, flow), first and latest ones
        self.blind: dict[str, BlindSpot] = {}
        self.trouble: str | None = None
        self.unwritten: str | None = None  # why the run folder could not be written
        self._kinds: dict[str, str] = {}  # class of each recurrent module met, by name
        self._reached: set[str] = set()
        self.measured = 0  # samples in which at least one layer could be measured

    def start(self) -> None:
        """Begin to watch the process."""
        self.watch.start()

    def stop(self) -> None:
        """End the watch; what was found stays."""
        self.watch.stop()
        self._meet()
        if self.watch.samples:
            for name in self._kinds.keys() - self._reached:
                self.blind.setdefault(name, BlindSpot(name, self._kinds[name], NEVER_REACHED))
        self.blind |= dict(self.watch.names.blind)
        self.trouble = self.watch.fault

    def take(self, sampled: SampledPass) -> None:
        """Analyse one sampled pass, and write what came of it."""
        started = time.perf_counter()
        self._meet()
        reached = {call.name for call in sampled.calls if call.reached}
        self._reached |= reached
        # Others belong to another pass: an evaluation, the opponent of this network.
        calls = [call for call in sampled.calls if call.name in reached]
        with torch.no_grad(), plain_defaults():
            layers, blind = analyse(calls, sampled.gradients, LAG_PROBES, seed=0)
        blind += [BlindSpot(name, "module", reason) for name, reason in sampled.failures.items()]
        self.blind |= {spot.module: spot for spot in blind}
        flow = GradientFlow(
            layers=layers,
            blind=tuple(blind),
            loss=float("nan") if sampled.loss is None else sampled.loss,
            meta={
                "pass": sampled.number,
                "step": sampled.step,
                "torch": torch.__version__,
                "loss_seen": sampled.loss is not None,
                "analysis_seconds": time.perf_counter() - started,
            },
        )
        self.measured += bool(layers)
        if not layers:
            return
        # The large arrays of every sample would fill the memory of a long run.
        plain = flow.to_dict()
        self.flows = [*self.flows[:1], (sampled.step, GradientFlow.from_dict(plain))]
        for finding in diagnose(flow, self.options.needs_lag):
            self.see(finding, sampled.step)
        self._write(sampled.number, plain)

    def _meet(self) -> None:
        """Note the recurrent modules that exist: a model may be gone when the script ends."""
        names = self.watch.names
        self._kinds |= {names[module]: class_name(module) for module in names}

    def _write(self, number: int, flow: dict[str, Any]) -> None:
        """Write a sample; a full disk ends the writing, not the watch."""
        if self.unwritten is not None:
            return
        try:
            self.folder.write_flow(number, flow)
            self.folder.write_findings([sighting.to_dict() for sighting in self.ordered()])
        except WriteError as error:
            self.unwritten = str(error)

    def see(self, finding: Finding, step: int) -> None:
        """Note a finding, or that it was seen again."""
        key = (finding.code, finding.layer or "")
        before = self.sightings.get(key)
        self.sightings[key] = Sighting.at(finding, step) if before is None else before.again(step)

    def ordered(self) -> list[Sighting]:
        """Return the findings, the gravest and most causal first."""
        return sorted(self.sightings.values(), key=lambda sighting: sort_key(sighting.finding))

    def _count(self, steps: int) -> None:
        if self.options.steps is not None and steps >= self.options.steps:
            self.enough()


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Undo for a while what a script may have set for its own tensors: default type and device.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with plain_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
        >>> torch.zeros(1).dtype
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.autocast("cpu", enabled=False):
            if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                yield
                return
            with torch.autocast("cuda", enabled=False):
                yield
    finally:
        torch.set_default_dtype(dtype)
