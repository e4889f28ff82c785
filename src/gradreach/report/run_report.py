"""The report of a watched run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gradreach.records import GradientFlow, History
from gradreach.records.sighting import Sighting
from gradreach.report.findings import Found, found_sentence
from gradreach.report.html import Section, write_report
from gradreach.report.sentences import verdict

__all__ = ["write_run_report"]


def write_run_report(
    path: str | os.PathLike[str],
    name: str,
    sightings: Sequence[Sighting],
    flows: Sequence[tuple[int, GradientFlow]],
    notes: Sequence[str],
    history: History | None = None,
) -> None:
    """Write one page: verdict, findings, the training over its steps, then measured passes.

    Args:
        path: The file to write.
        name: Name of the script, for the heading.
        sightings: The findings, the gravest first.
        flows: Measured passes with the optimizer step of each.
        notes: Sentences on how it was measured.
        history: The training over its steps.

    Raises:
        WriteError: The file cannot be written.

    Example:
        >>> import tempfile, pathlib, torch, gradreach
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> seen = [Sighting.at(finding, 7) for finding in gradreach.diagnose(flow)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "report.html"
        ...     write_run_report(path, "train.py", seen, [(7, flow)], [])
        ...     "1 problem found: vanishing-gradient in rnn.l0." in path.read_text("utf-8")
        True
    """
    found = [Found(sighting.finding, sighting.when) for sighting in sightings]
    said = [found_sentence(found)]
    if flows:
        step, latest = flows[-1]
        # What the findings speak of may have been long ago; this is how it stood in the end.
        said += [f"At step {step}: {sentence}" for sentence in verdict(latest)]
    sections = [
        Section(
            title=f"{'First' if place == 0 else 'Latest'} measured pass, step {step}", flow=flow
        )
        for place, (step, flow) in enumerate(flows)
    ]
    if len(sections) == 1:
        sections = [Section(title=f"The measured pass, step {flows[0][0]}", flow=flows[0][1])]
    write_report(
        path,
        f"Gradient flow of {name}",
        said,
        sections,
        findings=found,
        notes=notes,
        history=history,
    )
