"""Runs a training script once, treated or not, and tells how it went."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradreach.monitor.logged import LISTENERS
from gradreach.monitor.session import Session
from gradreach.monitor.session_options import SessionOptions
from gradreach.records.trial import CONTROL, Outcome, Trial
from gradreach.script.crash import explain_crash
from gradreach.script.facts_of_run import facts_of_run
from gradreach.script.lack_of_memory import says_no_memory
from gradreach.script.losses import Losses
from gradreach.script.printed import Printed
from gradreach.script.runner import Outcome as Ending
from gradreach.script.runner import StopScript, run_script
from gradreach.script.seeding import Seeding, seed_all, seeding_of, shift_fixed_seeds
from gradreach.script.trial_cost import TRIAL_COST
from gradreach.treatments.interception import Interception
from gradreach.treatments.places import note_places
from gradreach.treatments.treatment import Treatment

__all__ = ["run_script_trial"]

POINTS = 4  # of a metric over the steps: fewer are no curve


def run_script_trial(
    script: str,
    arguments: Sequence[str] = (),
    *,
    treatment: Treatment | None = None,
    seed: int = 0,
    budget: int | None = None,
    metric: str = "loss",
    pattern: str = "",
    maximize: bool = False,
    needs_lag: int | None = None,
) -> Trial:
    """Run a script in this process, which is taken to be a fresh one, and tell how it went.

    The script is not edited: what it builds and calls is intercepted. Nothing is put back but
    torch's own functions: seeds, threads and ``__main__`` are those of a process that ends with
    the trial. What the script raises becomes the trial's outcome.

    Args:
        script: Path, relative to the working directory. arguments: Those of the script.
        treatment: Installed before the script runs; ``None`` for the control.
        seed: Given to the script by its own ``--seed`` or ``GRADREACH_SEED``, where it knows one;
            otherwise torch, NumPy and ``random`` are seeded, and seeds that it fixes are shifted.
        budget: Optimizer steps after which the script is ended.
        metric: ``"loss"``: the loss that torch's loss functions give without gradients, where the
            script takes one, else what it calls ``backward`` on. ``"regex"``: what it prints.
            ``"log"``: what it gives to ``gradreach.log``.
        pattern: Of ``"regex"``; for ``"log"`` the name, empty for the first one.
        maximize: More of the metric is better.
        needs_lag: How far back the task must look, if the user knows.

    Returns:
        The trial; its ``meta`` holds the facts of the run (``"facts"``), how it was seeded, and
        both losses.

    Raises:
        ScriptError: There is no such script.
    """
    seeding = seeding_of(script, arguments, seed)
    seed_all(seed)
    shift_fixed_seeds(seeding.shift)
    run = _Run(treatment, budget, needs_lag, metric, pattern, maximize)
    ending = run.of(script, list(seeding.arguments))
    return run.trial(ending, seed, seeding)


@dataclass(frozen=True)
class _Measured:
    """The metric of a run: value, whether it is held out, where it is from, its course."""

    value: float
    held_out: bool
    told: str
    curve: tuple[list[int], list[float]]


@dataclass
class _Run:
    """One run: what listens to it, and what came of it."""

    treatment: Treatment | None
    budget: int | None
    needs_lag: int | None
    metric: str
    pattern: str
    maximize: bool
    logged: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str | None = None

    def __post_init__(self) -> None:
        options = SessionOptions(
            needs_lag=self.needs_lag, steps=self.budget, cost=TRIAL_COST, says_short=False
        )
        self.session = Session(None, options, _enough)
        self.interception = Interception()
        self.losses = Losses(self._steps, self.session.scaler.factor)
        self.printed = Printed(self.pattern, self._steps) if self.metric == "regex" else None

    def of(self, script: str, arguments: list[str]) -> Ending:
        """Run the script with everything in place."""
        with contextlib.ExitStack() as stack:
            self._install(stack)
            if self.printed is not None:
                stack.enter_context(self.printed)
            begun = time.perf_counter()
            ending = run_script(script, arguments)
            self.seconds = time.perf_counter() - begun
        self._explain(ending)
        return ending

    def _install(self, stack: contextlib.ExitStack) -> None:
        """Put treatments in place first: what listens must hear what the user's code says."""
        if self.treatment is None:
            # The control notes the places that a patch would have to change.
            self.interception.on_backward(lambda loss: None)
            self.interception.on_detach(lambda tensor, site: False)
            note_places(self.interception).watch_detaches(self.interception)
        else:
            self.treatment.install(self.interception)
        stack.enter_context(self.interception)
        self.session.start()
        stack.callback(self._stop_session)
        self.losses.start()
        stack.callback(self.losses.stop)
        LISTENERS.append(self._log)
        stack.callback(LISTENERS.remove, self._log)

    def _stop_session(self) -> None:
        try:
            self.session.stop()
        except Exception:  # noqa: BLE001  the script has ended, and its metric stands
            self.trouble = traceback.format_exc()

    def _explain(self, ending: Ending) -> None:
        try:
            explain_crash(self.session, ending)
        except Exception:  # noqa: BLE001  the script has ended, and its outcome stands
            self.trouble = traceback.format_exc()

    def _steps(self) -> int:
        return self.session.watch.steps

    def _log(self, name: str, value: float) -> None:
        self.logged.setdefault(name, []).append((self._steps(), value))

    # ---- what came of it

    def trial(self, ending: Ending, seed: int, seeding: Seeding) -> Trial:
        """Put together what the run came to."""
        steps = self._steps()
        measured = self._measured(steps, cut=ending.stopped)
        value, curve = measured.value, measured.curve
        outcome, message = _outcome(ending, value, measured.told)
        own = max(self.seconds - self.session.watch.seconds, 0.0)
        losses = self.losses
        return Trial(
            treatment=CONTROL if self.treatment is None else self.treatment.label,
            seed=seed,
            budget=self.budget,
            outcome=outcome,
            metric=value if outcome == "finished" else math.nan,
            held_out=measured.held_out,
            steps_of_curve=_array(curve[0]),
            curve=_array(curve[1]),
            steps=steps,
            seconds=own,
            reach=self.session.last_reach(),
            findings=tuple(self.session.findings()),
            message=message,
            meta={
                "measured": measured.told,
                "training_loss": losses.training_tail(steps),
                "held_out_loss": losses.held_out_tail(steps),
                "fresh": losses.fresh(steps),
                "seeding": seeding.told,
                "stopped": ending.stopped,
                "interrupted": ending.interrupted,
                "watching_seconds": self.session.watch.seconds,
                "samples": self.session.watch.samples,
                "trouble": self.trouble or self.session.trouble,
                "facts": self._facts(steps, own),
            },
        )

    def _measured(self, steps: int, *, cut: bool) -> _Measured:
        """Return the metric and how it was had.

        A run that was cut short may not have come to where its number is printed or evaluated:
        then the training loss stands in, turned round where more is better. The curve is that
        of the metric where it was seen often enough to be one.
        """
        losses = self.losses
        sign = -1.0 if self.maximize else 1.0
        course = losses.curve()
        course = (course[0], [sign * value for value in course[1]])
        found = self._found(steps)
        if found is not None:
            return found if len(found.curve[0]) >= POINTS else replace(found, curve=course)
        fresh = losses.fresh(steps)
        told = "the loss that backward is called on, mean over the last tenth of the steps"
        told += ", each batch new when it was taken" if fresh else ""
        if self.metric == "loss":
            return _Measured(losses.training_tail(steps), fresh, told, course)
        if cut:
            return _Measured(
                sign * losses.training_tail(steps), False, f"cut short: {told}", course
            )
        missing = (
            f"nothing the script prints matches {self.pattern!r}"
            if self.metric == "regex"
            else f"gradreach.log({self.pattern or 'name'}=…) was never called"
        )
        return _Measured(math.nan, False, missing, course)

    def _found(self, steps: int) -> _Measured | None:
        """Return the metric where the run has come to it."""
        losses = self.losses
        if self.metric == "loss":
            curve = losses.held_out_curve()
            if not curve[0]:
                return None
            sure = losses.known_held_out
            told = "the loss that the script takes without gradients"
            told += ", on data it does not train on" if sure else ""
            return _Measured(losses.held_out_tail(steps), sure, told, curve)
        if self.printed is not None:
            found, source = self.printed.found, f"what the script prints: {self.pattern}"
        else:
            name = self.pattern or next(iter(self.logged), "")
            found, source = self.logged.get(name, []), f"gradreach.log({name}=…)"
        if not found:
            return None
        # What the user names is taken as the user's word for what counts.
        curve = ([step for step, _ in found], [value for _, value in found])
        return _Measured(found[-1][1], True, source, curve)

    def _facts(self, steps: int, seconds: float) -> dict[str, Any] | None:
        if self.treatment is not None:
            return None
        sites = self.interception.sites
        return facts_of_run(self.session, sites, steps=steps, seconds=seconds).to_dict()


def _enough() -> None:
    """End the script, from where its optimizer has just made a step."""
    raise StopScript


def _outcome(ending: Ending, value: float, told: str) -> tuple[Outcome, str]:
    said = ending.told[0] if ending.told else ""
    if ending.interrupted:
        return "crashed", "it was interrupted"
    if ending.exit_code:
        if any(says_no_memory(each) or "MemoryError" in each for each in ending.told):
            return "out-of-memory", said
        return "crashed", said or f"the script ended with exit code {ending.exit_code}"
    if not math.isfinite(value):
        return "nonfinite", f"no finite number: {told}"
    return "finished", ""


def _array(values: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(values, dtype=np.float64)
