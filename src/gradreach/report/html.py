"""One offline HTML page of what was measured: verdict first, then layer by layer."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradreach import __version__
from gradreach.records import GradientFlow, History
from gradreach.records.finding import SEVERITIES
from gradreach.report.findings import Found, Group, groups
from gradreach.report.layer_view import layer_view
from gradreach.report.page import render_page
from gradreach.report.training import training_view
from gradreach.runs.files import write_whole

__all__ = ["Section", "gravest", "group_view", "render_report", "write_report"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One measured state of a model.

    Attributes:
        title: Its heading.
        flow: What `gradreach.measure` returned.
        last_step: The same model and data measured with the loss of the last step alone: only
            this tells from how far back a weight's gradient comes.
        remarks: Sentences to stand under the heading.
    """

    title: str
    flow: GradientFlow
    last_step: GradientFlow | None = None
    remarks: tuple[str, ...] = ()


def render_report(
    title: str,
    verdict: Sequence[str],
    sections: Sequence[Section],
    *,
    findings: Sequence[Found] = (),
    notes: Sequence[str] = (),
    unit: str = "step",
    history: History | None = None,
) -> str:
    """Return the page. It needs no network and follows the reader's light or dark.

    With a history it can be explored: its scripts, which it holds itself, draw over pictures
    that are there without them, for print and for whoever runs no scripts.

    Args:
        title: Heading of the page, plain text as everything here: all of it is escaped.
        verdict: Sentences that stand first.
        sections: What was measured, in order.
        findings: What was found in it, the gravest first; they stand under the verdict.
        notes: Sentences on how it came about, for the end.
        unit: What a time step is to the reader, singular.
        history: Of the training that the measurements were taken in; stands before them.

    Cost:
        Milliseconds; about 5 KB a curve, with a history 65 KB more for the scripts.

    Example:
        >>> import torch, gradreach
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> page = render_report("A & B", ["It fades."], [Section(title="Start", flow=flow)])
        >>> "<h1>A &amp; B</h1>" in page, page.count("<svg")
        (True, 3)
    """
    training = None if history is None else training_view(history, _accused(findings))
    shown = [_section(section, unit) for section in sections]
    return render_page(
        "report.html.j2",
        title=title,
        verdict=verdict,
        severity=gravest(findings),
        findings=[group_view(group) for group in groups(findings)],
        training=training,
        proof=None if training is None else _proof(training, shown),
        sections=shown,
        notes=[*notes, *_versions(sections)],
        unit=unit,
        data=None if training is None or not _drawn(training) else training["data"],
    )


def write_report(
    path: str | os.PathLike[str],
    title: str,
    verdict: Sequence[str],
    sections: Sequence[Section],
    *,
    findings: Sequence[Found] = (),
    notes: Sequence[str] = (),
    unit: str = "step",
    history: History | None = None,
) -> None:
    """Render the page and write it whole; see `render_report` for the arguments.

    Args:
        path: The file to write.
        title: Heading of the page.
        verdict: Sentences that stand first.
        sections: What was measured.
        findings: What was found in it.
        notes: Sentences for the end.
        unit: What a time step is to the reader.
        history: Of the training they were taken in.

    Raises:
        WriteError: The file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(pathlib.Path(folder) / "report.html", "Empty", [], [])
        ...     (pathlib.Path(folder) / "report.html").read_text(encoding="utf-8")[:15]
        '<!doctype html>'
    """
    page = render_report(
        title, verdict, sections, findings=findings, notes=notes, unit=unit, history=history
    )
    write_whole(path, page)


def group_view(group: Group) -> dict[str, Any]:
    """Return what the macro ``finding_card`` shows of one problem, wherever it was found."""
    return {
        "severity": group.finding.severity,
        "code": group.finding.code,
        "remedies": group.remedies,
        "members": [
            {
                "place": item.place,
                "cause": item.finding.cause,
                "explains": ", ".join(item.finding.explains),
                "counter_check": item.finding.counter_check,
            }
            for item in group.members
        ],
    }


def gravest(findings: Sequence[Found]) -> str:
    """Return the gravest severity; empty where nothing was found.

    Example:
        >>> gravest([])
        ''
    """
    seen = {item.finding.severity for item in findings}
    return next((severity for severity in SEVERITIES if severity in seen), "")


def _accused(findings: Sequence[Found]) -> str | None:
    """Return the layer that the gravest finding with a layer is about."""
    return next((item.finding.layer for item in findings if item.finding.layer), None)


def _proof(training: dict[str, Any], sections: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the pictures that stand under the verdict; they do not stand twice.

    They are the heat map of the layer in question and its lag profile in the latest pass.
    """
    first = training["maps"][0] if training["maps"] else None
    layers = sections[-1]["layers"] if sections else []
    wanted = first["name"] if first else None
    layer = next((own for own in layers if own["name"] == wanted), layers[0] if layers else None)
    if first is not None:
        training["maps"] = training["maps"][1:]
    if layer is not None and layer["profile"]:
        layer["shown_above"] = True
    else:
        layer = None
    return {"map": first, "layer": layer} if first or layer else None


def _drawn(training: dict[str, Any]) -> bool:
    return bool(training["data"]["charts"] or training["data"]["maps"])


def _section(section: Section, unit: str) -> dict[str, Any]:
    flow, last = section.flow, section.last_step
    return {
        "title": section.title,
        "remarks": [*section.remarks, *_loss(flow)],
        "layers": [
            layer_view(layer, None if last is None else last.layers.get(name), unit)
            for name, layer in flow.layers.items()
        ],
        "notes": list(_how(flow)),
    }


def _loss(flow: GradientFlow) -> list[str]:
    return [] if flow.meta.get("loss_seen") is False else [f"Loss: {flow.loss:.4g}."]


def _how(flow: GradientFlow) -> Iterator[str]:
    """Yield how a flow was measured and how exact it is."""
    for layer in flow.layers.values():
        followed, there = len(layer.lag_probes), len(layer.loss_steps)
        errors = [error for error in layer.closure_error.values() if math.isfinite(error)]
        exact = (
            f"the terms of all steps add up to torch's own gradient within {max(errors):.1g} of it"
            if errors
            else "no weight of it received gradient"
        )
        yield (
            f"{layer.name}: {followed} of {there} loss step{'s' if there != 1 else ''} followed "
            f"back; {exact} ({layer.dtype}, source: {layer.source})."
        )
    if {"pass_seconds", "analysis_seconds"} <= set(flow.meta):
        yield (
            f"Forward and backward pass {flow.meta['pass_seconds']:.2g} s, measuring "
            f"{flow.meta['analysis_seconds']:.2g} s."
        )
    yield from (f"Not measured: {spot}." for spot in flow.blind)
    yield from flow.notes


def _versions(sections: Sequence[Section]) -> list[str]:
    torches = sorted({str(s.flow.meta["torch"]) for s in sections if "torch" in s.flow.meta})
    named = [f"gradreach {__version__}", *(f"torch {version}" for version in torches)]
    return [", ".join([*named, f"Python {platform.python_version()}"]) + "."]
