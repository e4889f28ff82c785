"""One watched run: samples become records and findings, and both become files."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from gradreach import __version__
from gradreach.diagnosis.diagnose import diagnose
from gradreach.diagnosis.order import sort_key
from gradreach.flow.analyse import analyse
from gradreach.flow.find import class_name
from gradreach.monitor.blocking import Blocking
from gradreach.monitor.clip_calls import ClipCalls
from gradreach.monitor.concluded import concluded, notes
from gradreach.monitor.jumps import Jumps
from gradreach.monitor.line_probes import LineProbes
from gradreach.monitor.own_cell_watch import own_flows
from gradreach.monitor.parameters import WatchedParameters
from gradreach.monitor.passes import PROBES, PassWatch, SampledPass
from gradreach.monitor.plain_defaults import plain_defaults
from gradreach.monitor.probe_turns import ProbeTurns
from gradreach.monitor.row_events import RowEvents
from gradreach.monitor.scaler_calls import ScalerCalls
from gradreach.monitor.session_options import SessionOptions
from gradreach.monitor.sinks import FanOut, MemorySink, Sink
from gradreach.monitor.step_rows import StepRows
from gradreach.records import BlindSpot, Finding, GradientFlow
from gradreach.records.event import Event, EventKind
from gradreach.records.gradient_flow import Layers
from gradreach.records.history import History
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.sample import Sample
from gradreach.records.sighting import Sighting
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder

__all__ = ["Session"]

NEVER_REACHED = (
    "no sampled pass reached it: it was called where no gradient is recorded, or the loss does not "
    "depend on it, or torch.compile took it in (TORCHDYNAMO_DISABLE=1 keeps it out)"
)
BLIND_AFTER = 2  # steps after which a layer that no sample has reached is said to be blind


class Session:
    """Collects what the watch samples and counts.

    Args:
        folder: Where full records are written as they come, if anywhere.
        enough: Called, inside the script, once ``options.steps`` are done.
        model: Watch this one only, and the optimizers for which ``relevant`` holds.
        sinks: Where rows, samples and events go, beside the memory.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        options: SessionOptions,
        enough: Callable[[], None] | None = None,
        *,
        model: nn.Module | None = None,
        relevant: Callable[[Optimizer], bool] | None = None,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self.folder, self.options, self.enough = folder, options, enough
        self.memory = MemorySink()
        self.sink = FanOut(self.memory, sinks, self._sink_failed)
        cadence = options.cost.cadence(options.every)
        self.watch = PassWatch(
            self.take, cadence, self._count, model=model, relevant=relevant or self._moves
        )
        self.watch.guard.on_fault = self._failed
        self.watch.wants_inputs = options.inputs
        self.costs: dict[str, JacobianCost] = {}  # of the Jacobians of each layer first measured
        names = self.watch.names
        self.parameters = WatchedParameters(lambda: names.models, lambda: names)
        self.pace = options.cost.pace()
        guard = self.watch.guard
        self.scaler = ScalerCalls(guard, self.watch.skipped)
        self.clips = ClipCalls(guard, self.scaler.scaled, lambda: self.parameters.all)
        self.turns = ProbeTurns(guard, cadence, lambda: self.watch.elapsed, self.sink.probe)
        self.probes = LineProbes(guard, self.turns.made, self.scaler, told=True)
        self.turns.probes = self.probes
        self.watch.others += [self.scaler.stop, self.clips.stop, self.probes.stop]
        self.rows = StepRows(
            self.parameters,
            self.pace,
            self._emit,
            clips=self.clips,
            factor=self._factor,
            blocking=self._blocking,
            number=lambda: self.watch.steps,
        )
        self.watch.rows = self.rows
        self.watch.before_step += [self.rows.before_step, _alone(self.probes.before_step)]
        self.watch.after_step += [self.rows.after_step, _alone(self.probes.after_step)]
        self.jumps, self.row_events = Jumps(), RowEvents(self._event)
        self.blocking: Blocking | None = None
        if options.block and model is not None:
            self.blocking = Blocking(
                model,
                guard,
                self._blocked,
                limit=options.blocked,
                relevant=relevant or self._moves,
                on_limit=self.watch.step_ended,
            )
            self.watch.others.append(self.blocking.pause)
        self._blocked_at = -1  # the last step that was
        self.sightings: dict[tuple[str, str], Sighting] = {}
        self.flows: list[tuple[int, GradientFlow]] = []  # (step, flow), first and latest ones
        self.blind: dict[str, BlindSpot] = {}
        self.trouble: str | None = None
        self.unwritten: str | None = None  # why the run folder could not be written
        self._kinds: dict[str, str] = {}  # class of each recurrent module met, by name
        self._reached: set[str] = set()
        self._told: set[str] = set()  # modules whose blindness is an event already
        self._recorded = False  # the step that has just been made has a row
        self._sampling = 0.0  # seconds that went into samples
        self.measured = 0  # samples in which at least one layer could be measured
        self.seconds: float | None = None  # wall time of the whole watch, once it has ended

    def start(self) -> None:
        """Begin to watch the process."""
        self.watch.guard(self.scaler.start)
        self.watch.guard(self.clips.start)
        self.watch.start()
        if self.blocking is not None:
            self.watch.guard(self.blocking.start)
        self.watch.guard(self._attached)

    def stop(self) -> None:
        """End the watch; what was found stays."""
        if self.seconds is not None:
            return
        self.seconds = self.watch.elapsed
        self.watch.guard(self.rows.close)
        self.watch.stop()
        if self.blocking is not None:
            self.watch.guard.insist(self.blocking.stop)
        self._meet()
        if self.watch.samples:
            for name in self._kinds.keys() - self._reached:
                self._see_blind(BlindSpot(name, self._kinds[name], NEVER_REACHED))
        for spot in self.watch.names.blind.values():
            self._see_blind(spot)
        self.trouble = self.watch.fault
        self._event("detached", "the watch ended", {"steps": self.rows.steps})
        self.sink.close(self.meta())

    # ---- steps

    def _moves(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer's steps count; until parameters are known, any may be ours."""
        return True

    def _attached(self) -> None:
        self._meet()
        kinds = dict(self._kinds)
        text = f"watching {', '.join(kinds) or 'whatever recurrent layer is called'}"
        self._event("attached", text, {"layers": kinds, "torch": torch.__version__})

    def _factor(self, roots: Any) -> float:
        """Return what the loss of a pass was multiplied by."""
        return self.scaler.factor(roots) if self.scaler.active else 1.0

    def _emit(self, row: dict[str, float]) -> None:
        """Take a step's row; where a quantity jumps, have the next pass sampled."""
        self.sink.row(row)
        step = int(row["step"])
        self.row_events.look(row, self.rows.clip, blocked=step == self._blocked_at)
        self._recorded = True
        for name in ("loss", "gradient_norm"):
            told = self.jumps.look(name.replace("_", " "), row[name]) if _counts(row[name]) else ""
            if told and self.watch.sample_next("jump"):
                self._event("jump", told, {name: row[name]})

    def _blocking(self, optimizer: Optimizer) -> bool:
        return self.blocking is not None and self.blocking.blocking(optimizer)

    def _blocked(self, kind: EventKind, text: str, numbers: dict[str, Any]) -> None:
        self._blocked_at = self.rows.steps
        self.row_events.some(kind, text, numbers)

    def _after_step(self, steps: int) -> None:
        apart = self._sampling + self.turns.seconds
        spent = self.watch.guard.seconds - apart
        self.pace.stepped(self._recorded, spent, self.watch.elapsed - apart)
        self._recorded = False
        if steps == BLIND_AFTER and not self.watch.samples:
            for name, kind in self._kinds.items():
                self._see_blind(BlindSpot(name, kind, NEVER_REACHED))
        if self.turns.stepped(steps):
            self.pace.also(steps)

    # ---- samples

    def take(self, sampled: SampledPass) -> None:
        """Analyse one sampled pass, and write what came of it."""
        started = time.perf_counter()
        self._meet()
        self.parameters.meet(again=True)
        reached = {call.name for call in sampled.calls if call.reached}
        self._reached |= reached
        # Others belong to another pass: an evaluation, the opponent of this network.
        calls = [call for call in sampled.calls if call.name in reached]
        with torch.no_grad(), plain_defaults():
            layers, blind = analyse(calls, sampled.gradients, PROBES, seed=0)
            if sampled.own_calls:
                own, more = own_flows(sampled.own_calls, sampled.gradients, PROBES)
                layers, blind = Layers({**layers, **own}), [*blind, *more]
        layers = Layers({**layers, **sampled.by_input})
        blind += sampled.own_blind
        blind += [BlindSpot(name, "module", reason) for name, reason in sampled.failures.items()]
        for spot in blind:
            self._see_blind(spot, again=True)
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
        if layers:
            self._keep(sampled, flow)
            self.turns.sampled()
            self.pace.also(sampled.step)
        self._sampling += time.perf_counter() - started

    def _keep(self, sampled: SampledPass, flow: GradientFlow) -> None:
        # The large arrays of every sample would fill the memory of a long run.
        for name, layer in flow.layers.items():
            if layer.states is not None and name not in self.costs:
                self.costs[name] = layer.jacobian_cost()
        plain = flow.to_dict()
        self.flows = [*self.flows[:1], (sampled.step, GradientFlow.from_dict(plain))]
        found = diagnose(flow, self.options.needs_lag)
        for finding in found:
            self.see(finding, sampled.step)
        self.sink.sample(
            Sample.of(flow, sampled.step, sampled.number, sampled.reason, tuple(found))
        )
        self._write(sampled.number, plain)

    def _meet(self) -> None:
        """Note the recurrent modules that exist: a model may be gone when the script ends."""
        names = self.watch.names
        self._kinds |= {names[module]: class_name(module) for module in names}

    def _see_blind(self, spot: BlindSpot, again: bool = False) -> None:
        """Note what cannot be measured; the first time, it is an event."""
        if again or spot.module not in self.blind:
            self.blind[spot.module] = spot
        if spot.module not in self._told:
            self._told.add(spot.module)
            self._event("blind", str(spot), {"module": spot.module, "reason": spot.reason})

    def _write(self, number: int, flow: dict[str, Any]) -> None:
        """Write a sample; a full disk ends the writing, not the watch."""
        if self.unwritten is not None or self.folder is None:
            return
        try:
            self.folder.write_flow(number, flow)
            self.folder.write_findings([each.to_dict() for each in self.sightings.values()])
        except WriteError as error:
            self.unwritten = str(error)

    # ---- what came of it

    def see(self, finding: Finding, step: int) -> None:
        """Note a finding, or that it was seen again."""
        key = (finding.code, finding.layer or "")
        before = self.sightings.get(key)
        self.sightings[key] = Sighting.at(finding, step) if before is None else before.again(step)

    def ordered(self) -> list[Sighting]:
        """Return the findings, the gravest and most causal first, with when they were seen."""
        seen = list(self.sightings.values())
        if self.memory.samples or self.rows.steps:
            try:
                seen = concluded(self.history(), seen, self.options.says_short)
            except Exception:  # noqa: BLE001  the run has ended well, and what was seen stands
                self.trouble = self.trouble or traceback.format_exc()
        return sorted(seen, key=lambda sighting: sort_key(sighting.finding))

    def findings(self) -> list[Finding]:
        """Return what is wrong, the gravest first."""
        return [sighting.finding for sighting in self.ordered()]

    def last_reach(self) -> dict[str, float]:
        """Return each layer's reach at the last sample, where it had one."""
        samples = self.memory.samples
        last = samples[-1].layers if samples else {}
        return {name: float(each.reach) for name, each in last.items() if each.reach is not None}

    def report(self, path: Path) -> None:
        """Write the report; it needs jinja2, which is imported only now."""
        from gradreach.report.run_report import write_run_report

        write_run_report(
            path, "the watched training", self.ordered(), self.flows, self.notes(),
            self.history(),
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Return sentences on how it was watched, and what went wrong with that."""
        return list(notes(self.meta(), self.memory.events))

    def history(self) -> History:
        """Return what was recorded so far."""
        return History(
            rows=self.memory.columns(),
            samples=tuple(self.memory.samples),
            probes=tuple(self.memory.probes),
            events=tuple(self.memory.events),
            needs_lag=self.options.needs_lag,
            meta=self.meta(),
        )

    @property
    def overhead(self) -> float:
        """Time that watching took, by the time that the user's own work took."""
        seconds = self.watch.elapsed if self.seconds is None else self.seconds
        return self.watch.seconds / max(seconds - self.watch.seconds, 1e-9)

    def meta(self) -> dict[str, Any]:
        """Return how it was watched, as plain data."""
        return {
            "cost": self.options.cost.name,
            "promise": self.options.cost.promise,
            "overhead": self.overhead,
            "watching_seconds": self.watch.seconds,
            "seconds": self.watch.elapsed if self.seconds is None else self.seconds,
            "steps": self.rows.steps,
            "passes": self.watch.passes,
            "samples": self.watch.samples,
            "sampled": str(self.watch.cadence),
            "row_stride": self.pace.stride,
            "followed": self.parameters.described,
            "by_hand": self.rows.by_hand,
            "blind": [spot.to_dict() for spot in self.blind.values()],
            "trouble": self.watch.fault,
            "versions": {"gradreach": __version__, "torch": torch.__version__},
        }

    # ---- what goes wrong

    def _failed(self) -> None:
        """Something of ours has raised: the guard has kept it from the user and ends the watch."""
        self.watch.guard.insist(self.watch.switch_off)
        self.watch.guard.insist(self._tell_fault)

    def _tell_fault(self) -> None:
        last = (self.watch.fault or "").strip().splitlines()[-1:]
        text = f"gradreach itself failed and watches no more: {' '.join(last)}"
        self._event("fault", text, {"traceback": self.watch.fault})

    def _sink_failed(self, told: str) -> None:
        self._event("gap", told, {})

    def _event(self, kind: EventKind, text: str, numbers: dict[str, Any]) -> None:
        self.sink.event(Event(kind=kind, step=self.rows.steps, text=text, numbers=numbers))

    def _count(self, steps: int) -> None:
        self.watch.guard(self._after_step, steps)
        limit = self.options.steps
        if limit is not None and self.enough is not None and steps >= limit:
            self.enough()


def _alone(work: Callable[[Optimizer], None]) -> Callable[[Optimizer, bool], None]:
    """Return what calls it with the optimizer only."""
    return lambda optimizer, new: work(optimizer)


def _counts(value: float) -> bool:
    """Whether a number was measured: NaN stands for what was not."""
    return value == value
