"""The text of the place-language part of `gradreach demo`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradreach.cli.demo_text import when
from gradreach.cli.place_language import NEEDED, PlaceData, PlaceRun, PlaceStage
from gradreach.report.findings import Found, finding_lines
from gradreach.report.sentences import percent, reach_sentence
from gradreach.report.terminal import wrapped

__all__ = ["PLACE_TITLE", "accuracy_lines", "place_intro_lines", "place_lines", "place_verdict"]

PLACE_TITLE = f"3  A task that needs {NEEDED} words: the place decides the language"
TASK = (
    'Short: "Marathi is spoken in Maharashtra." Long: "Maharashtra is a beautiful place. I went '
    "there last year, … but I could not enjoy it properly because I don't understand Marathi.\" "
    "The place decides the language, or the language the place, many words later."
)
DIAGNOSED = (
    f"Diagnosed with needs_lag={NEEDED}: does the error made at the second of the two words "
    f"reach the first, {NEEDED} words before it? That loss alone is measured."
)
LEARNED = 0.5  # right in half of the held-out sentences; the commonest answer is in one of 25
LABEL, COLUMN = 32, 8


def place_intro_lines(data: PlaceData) -> Iterator[str]:
    """Yield what the task is and how it is diagnosed.

    Args:
        data: What `load_place` returned.
    """
    yield from wrapped(TASK)
    yield from wrapped(
        f"examples/place_language.py has {data.places} places with the languages spoken there; "
        f"between the two words stands real text. {DIAGNOSED}"
    )


def place_lines(run: PlaceRun) -> Iterator[str]:
    """Yield one cell's diagnosis, at the start and after training.

    Args:
        run: What `measure_place` returned.
    """
    yield f"{run.name}, {run.hidden} units, measured on {run.batch} sentences"
    found = []
    for stage in run.stages:
        time = when(stage.steps)
        sentence = reach_sentence(stage.layer, unit="word").partition(": ")[2]
        yield from wrapped(
            f"{time[0].upper()}{time[1:]}: {sentence} {NEEDED} words back it is "
            f"{_amount(stage.left)}."
        )
        if not stage.findings:
            yield from wrapped(f"No problem found {time}.")
        found += [Found(finding, time) for finding in stage.findings]
    if found:
        yield from finding_lines(found)


def accuracy_lines(runs: Sequence[PlaceRun]) -> Iterator[str]:
    """Yield the accuracy at the second word by distance, of the cells that were trained.

    Args:
        runs: What `measure_place` returned, one a cell.

    Example:
        >>> list(accuracy_lines([]))
        []
    """
    trained = [(run, run.stages[-1]) for run in runs if run.stages[-1].accuracy]
    if not trained:
        return
    tested = trained[0][1]
    yield from wrapped(
        "How often the second word is predicted, among all words, in held-out sentences (other "
        f"templates, other text), {when(tested.steps)} at all these distances:"
    )
    yield _row("words apart", [str(distance) for distance in tested.accuracy])
    for run, stage in trained:
        told = stage.accuracy.values()
        yield _row(f"{run.name}, place to language", [f"{100 * a.to_language:.0f} %" for a in told])
        yield _row(f"{run.name}, language to place", [f"{100 * a.to_place:.0f} %" for a in told])
    commonest = [f"{100 * a.majority:.0f} %" for a in tested.accuracy.values()]
    yield _row("always the commonest answer", commonest)


def place_verdict(runs: Sequence[PlaceRun]) -> list[str]:
    """Return what came out: what the diagnosis said before, and what training made of it.

    Args:
        runs: One a cell.

    Example:
        >>> place_verdict([])
        []
    """
    said = []
    for run in runs:
        start, last = run.stages[0], run.stages[-1]
        said.append(f"{run.name}, {NEEDED} words apart, untrained: {_diagnosed(start)}.")
        if last is not start:
            said[-1] = f"{said[-1][:-1]}; {when(last.steps)}: {_diagnosed(last)}. {_learned(run)}"
    return said


def _diagnosed(stage: PlaceStage) -> str:
    if stage.problems:
        codes = ", ".join(finding.code for finding in stage.problems)
        return f"{codes} (reach {stage.layer.reach()})"
    return f"no problem ({_amount(stage.left)} of the gradient is left)"


def _learned(run: PlaceRun) -> str:
    """Say whether the trained cell does the task, and what that tells about its diagnosis."""
    start, last = run.stages[0], run.stages[-1]
    right = last.accuracy[NEEDED]
    score = f"It is right in {100 * right.mean:.0f} % (always the commonest answer: "
    score += f"{100 * right.majority:.0f} %)"
    if right.mean >= LEARNED and start.problems and not last.problems:
        return (
            f"{score}: trained on shorter distances too, its gradient came to reach back. A "
            "finding speaks of the network as it stands."
        )
    if right.mean < LEARNED and last.problems:
        reach = last.layer.reach() or 0
        failed = [
            str(distance)
            for distance, accuracy in last.accuracy.items()
            if distance < reach and accuracy.mean < LEARNED
        ]
        either = (
            f"; nor {' and '.join(failed)} words, which it does reach: reach is needed, and not "
            "yet enough"
        )
        return (
            f"{score}: it has not learned what its gradient does not reach"
            f"{either if failed else ''}."
        )
    if right.mean < LEARNED:
        return f"{score}: its gradient reaches back, which is needed, and not yet enough."
    return f"{score}."


def _row(label: str, cells: Sequence[str]) -> str:
    return f"  {label:{LABEL}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)


def _amount(left: float) -> str:
    return f"{left:.1e}" if 0 < left < 1e-4 else percent(left)
