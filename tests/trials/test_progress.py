"""What is seen of a study: a line a trial in a pipe, a bar on a terminal, nothing unasked."""

from __future__ import annotations

import io
from dataclasses import replace

from gradreach.records.trial import Trial
from gradreach.trials.progress import Bar, Lines, Progress, progress_for
from gradreach.trials.spec import TrialSpec
from gradreach.trials.target import ScriptTarget

SPEC = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"), seed=3)
TRIAL = Trial(treatment="control", seed=3, outcome="finished", metric=0.25, steps=10, seconds=1.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(progress: Progress) -> None:
    with progress:
        progress.expect(4.0)
        progress.kept(replace(SPEC, seed=0), 1.0)
        progress.begin(SPEC)
        progress.tick()
        progress.end(SPEC, TRIAL, 1.0)
        progress.tick()
        progress.say("After 40 steps, followed no further: skip.")


def test_pipe_gets_one_plain_line_a_finished_trial():
    stream = io.StringIO()

    run(Lines(stream))

    first, second = stream.getvalue().splitlines()
    assert first.startswith(" 50%  control, seed 3: finished, metric 0.25, 10 steps in 1.0 s;")
    assert first.endswith("s left")
    assert second == "After 40 steps, followed no further: skip."
    assert "\x1b" not in stream.getvalue()


def test_terminal_gets_a_bar_that_is_taken_away():
    stream = Terminal()

    bar = Bar(stream)
    bar._console.width = 200
    run(bar)

    shown = stream.getvalue()
    assert "1 kept, control #3 0 s" in shown
    assert "1 kept, 1 finished" in shown
    assert "After 40 steps, followed no further: skip." in shown


def test_nothing_is_shown_unasked_where_nobody_looks():
    assert type(progress_for(None, io.StringIO())) is Progress
    assert type(progress_for(True, io.StringIO())) is Lines
    assert type(progress_for(None, Terminal())) is Bar
    assert type(progress_for(False, Terminal())) is Progress


def test_time_left_follows_the_pace_of_what_was_run_not_of_what_was_there():
    progress = Progress()
    progress.expect(10.0)
    for seed in range(100, 108):
        progress.kept(replace(SPEC, seed=seed), 1.0)

    assert progress.seconds_left is None
    progress.begin(SPEC)
    progress._begun -= 5.0  # five seconds ago
    progress.end(SPEC, TRIAL, 1.0)

    assert 5.0 <= progress.seconds_left < 6.0


def test_trial_that_is_asked_for_again_counts_once():
    progress = Progress()
    progress.expect(3.0)

    progress.end(SPEC, TRIAL, 1.0)
    progress.kept(SPEC, 1.0)
    progress.kept(replace(SPEC, seed=4), 1.0)
    progress.kept(replace(SPEC, seed=4), 1.0)

    assert (progress.done, progress.run) == (2.0, 1.0)
    assert progress.outcomes == {"finished": 1, "kept": 1}


def test_time_left_is_unknown_while_the_work_is():
    stream = io.StringIO()
    lines = Lines(stream)

    lines.begin(SPEC)
    lines.end(SPEC, TRIAL, 1.0)

    assert stream.getvalue().startswith("  ?%  control, seed 3")
    assert stream.getvalue().endswith("time left unknown\n")
