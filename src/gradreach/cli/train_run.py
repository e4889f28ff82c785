"""What ``gradreach train`` does: trains a task, watched, and tells what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gradreach import __version__
from gradreach.monitor.watch import Watch, watch
from gradreach.records import Finding
from gradreach.report.findings import Found, finding_lines, found_sentence
from gradreach.report.terminal import WIDTH, wrapped
from gradreach.runs.plain_json import dumps
from gradreach.tasks.task import Task, held_out
from gradreach.training.loop import Evaluation, Trained, Training
from gradreach.training.ranks import Ranks
from gradreach.training.task_training import TaskOptions, is_solved, task_training

__all__ = ["TrainRequest", "TrainResult", "told", "train_task"]

SCHEMA_VERSION = 1
HEALTHY, PROBLEM = 0, 1
TWICE = 2  # evaluations in a row that must meet the criterion
LAYER_OPTIONS = ("activation", "init", "forget_bias", "skip", "residual")


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What was asked for.

    Args:
        options: Of the training. threads: of torch. stop: whether it ends once solved.
    """

    options: TaskOptions
    threads: int = 1
    stop: bool = False

    @classmethod
    def of(cls, task: Task, chosen: Mapping[str, Any]) -> TrainRequest:
        """Sort the command's options: those of the layer are remedies, the rest the training's."""
        rest = {name: value for name, value in chosen.items() if name not in LAYER_OPTIONS}
        threads, stop = rest.pop("threads"), rest.pop("stop_when_solved")
        layer = {name: value for name, value in chosen.items() if name in LAYER_OPTIONS and value}
        # As the layers call it.
        remedies = {{"activation": "nonlinearity"}.get(name, name): v for name, v in layer.items()}
        if remedies.get("forget_bias") == "chrono":
            remedies["max_lag"] = task.needs_lag
        if "forget_bias" in remedies and rest["cell"] == "rnn":
            raise ValueError("--forget-bias belongs to gates: choose --cell gru or --cell lstm")
        every = max(1, rest["steps"] // 20)
        options = TaskOptions(remedies=remedies, evaluate_every=every, **rest)
        return cls(options, threads, stop)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainResult:
    """What a training came to.

    Attributes:
        solved: Whether the criterion is met in the end, twice in a row; ``None`` where the task
            has none. solved_at: steps until it was met twice in a row for the first time.
        tested: Held-out sequences. report: where the page was written, if it was.
    """

    task: Task
    request: TrainRequest
    trained: Trained
    findings: tuple[Finding, ...]
    processes: int
    tested: int
    solved: bool | None
    solved_at: int | None
    report: str | None
    trouble: str | None

    @property
    def exit_code(self) -> int:
        """1 where a finding is more than a note."""
        return PROBLEM if any(each.severity != "note" for each in self.findings) else HEALTHY


class _Twice:
    """Whether the criterion was met in two evaluations in a row."""

    def __init__(self, task: Task) -> None:
        self.task, self.met = task, 0

    def __call__(self, evaluation: Evaluation) -> bool:
        self.met = self.met + 1 if is_solved(self.task, evaluation.scores) else 0
        return self.met >= TWICE


def train_task(
    task: Task, request: TrainRequest, ranks: Ranks, folder: Path, *, quiet: bool
) -> TrainResult:
    """Train; the first rank writes the record into the folder and shows a bar.

    Raises:
        ValueError: The options do not fit each other.
        RunFolderError: The folder is not new or empty.
    """
    torch.set_num_threads(request.threads)
    training = task_training(task, request.options, ranks)
    # With several processes all would have to end at once: they make all steps.
    until = _Twice(task) if request.stop and ranks.size == 1 else None
    watched = watch(training.model, training.optimizer, run=folder, needs_lag=task.needs_lag)
    with watched, _progress(training, task.name, quiet=quiet or not ranks.is_first):
        trained = training.run(until=until)
    seen = _Twice(task)
    solved = [evaluation.step for evaluation in trained.evaluations if seen(evaluation)]
    return TrainResult(
        task=task,
        request=request,
        trained=trained,
        findings=tuple(watched.findings),
        processes=ranks.size,
        tested=len(held_out(task, request.options.test)[1]),
        solved=seen.met >= TWICE if task.criterion else None,
        solved_at=solved[0] if solved else None,
        report=_reported(watched, folder) if ranks.is_first else None,
        trouble=watched.trouble,
    )


def told(result: TrainResult, *, as_json: bool) -> str:
    """Return what the first rank says at the end."""
    return dumps(_plain(result)) if as_json else "\n".join(_lines(result))


def _reported(watched: Watch, folder: Path) -> str | None:
    page = folder / "report.html"
    watched.report(page)
    return str(page)


@contextmanager
def _progress(training: Training, name: str, *, quiet: bool) -> Iterator[None]:
    """Show a bar with the loss on standard error; it leaves nothing behind."""
    if quiet:
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:  # fmt: skip
        bar = progress.add_task(name, total=training.steps)

        def tell(step: int, loss: float) -> None:
            progress.update(bar, completed=step, description=f"{name}  loss {loss:.4g}")

        training.on_step.append(tell)
        yield


def _lines(result: TrainResult) -> Iterator[str]:
    task, options, trained = result.task, result.request.options, result.trained
    made = f"{options.cell.upper()} of {options.hidden} units"
    remedies = ", ".join(f"{name} {value}" for name, value in (options.remedies or {}).items())
    processes = f", {result.processes} processes" if result.processes > 1 else ""
    yield from wrapped(
        f"{task.name} ({task.variant}), T = {task.steps}, needs {task.needs_lag} steps back: "
        f"{made}{f' ({remedies})' if remedies else ''}, {trained.steps:,} steps of "
        f"{options.optimizer} in {trained.seconds:.1f} s{processes}.",
        WIDTH,
    )
    yield from wrapped(f"{_score(result)}.", WIDTH)
    if trained.stopped == "nonfinite":
        yield "Ended early: the loss was not finite any more."
    found = [Found(finding) for finding in result.findings]
    yield found_sentence(found)
    if found:
        yield ""
        yield from finding_lines(found)
    if result.trouble:
        yield from wrapped("Watching it failed; what is above is what was seen before.", WIDTH)
    yield ""
    yield f"Report: {result.report}"


def _score(result: TrainResult) -> str:
    task, trained = result.task, result.trained
    scores = trained.evaluations[-1].scores
    said = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    line = f"On {result.tested:,} held-out sequences: {said}; {task.baseline:.4g} without memory"
    if result.solved is None:
        return line
    bounds = ", ".join(f"{name} ≤ {bound:.4g}" for name, bound in task.criterion.items())
    when = f" at step {result.solved_at:,}" if result.solved else ""
    return f"{line}; {'solved' if result.solved else 'not solved'}{when} ({bounds})"


def _plain(result: TrainResult) -> dict[str, Any]:
    task, trained = result.task, result.trained
    return {
        "schema_version": SCHEMA_VERSION,
        "gradreach": __version__,
        "task": {
            "name": task.name,
            "variant": task.variant,
            "steps": task.steps,
            "needs_lag": task.needs_lag,
            "metric": task.metric,
            "baseline": task.baseline,
            "criterion": dict(task.criterion),
        },
        "options": asdict(result.request.options),
        "threads": result.request.threads,
        "processes": result.processes,
        "scores": dict(trained.evaluations[-1].scores),
        "curve": [{"step": each.step, **each.scores} for each in trained.evaluations],
        "solved": result.solved,
        "solved_at": result.solved_at,
        "steps": trained.steps,
        "stopped": trained.stopped,
        "seconds": trained.seconds,
        "findings": [finding.to_dict() for finding in result.findings],
        "report": result.report,
        "exit_code": result.exit_code,
    }
