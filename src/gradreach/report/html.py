"""One offline HTML page of what was measured: verdict first, then layer by layer."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from gradreach import __version__
from gradreach.display.svg import curve_svg
from gradreach.display.table import factor
from gradreach.records import GradientFlow, History, LayerFlow
from gradreach.records.plain import Array
from gradreach.records.reach import LEVEL
from gradreach.report.findings import Found, Group, groups
from gradreach.report.sentences import percent, reach_sentence
from gradreach.report.stretches import recurrent_weight, stretches
from gradreach.report.training import training_view
from gradreach.runs.files import write_whole

__all__ = ["Section", "render_report", "write_report"]

LAGS_SHOWN = (0, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)  # and the last one


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
    """Return the page. It needs no network, no script, and follows the reader's light or dark.

    Args:
        title: Heading of the page, plain text as everything here: all of it is escaped.
        verdict: Sentences that stand first.
        sections: What was measured, in order.
        findings: What was found in it, the gravest first; they stand under the verdict.
        notes: Sentences on how it came about, for the end.
        unit: What a time step is to the reader, singular.
        history: Of the training that the measurements were taken in; stands before them.

    Cost:
        Milliseconds; about 5 KB a curve.

    Example:
        >>> import torch, gradreach
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> page = render_report("A & B", ["It fades."], [Section(title="Start", flow=flow)])
        >>> "<h1>A &amp; B</h1>" in page, page.count("<svg")
        (True, 2)
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("gradreach.report").joinpath("templates/report.html.j2").read_text("utf-8")
    return environment.from_string(text).render(
        title=title,
        verdict=verdict,
        findings=[_group(group) for group in groups(findings)],
        training=None if history is None else training_view(history),
        sections=[_section(section, unit) for section in sections],
        notes=[*notes, *_versions(sections)],
        unit=unit,
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


def _group(group: Group) -> dict[str, Any]:
    """Return what the template shows of one problem, wherever it was found."""
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


def _section(section: Section, unit: str) -> dict[str, Any]:
    flow, last = section.flow, section.last_step
    return {
        "title": section.title,
        "remarks": [*section.remarks, *_loss(flow)],
        "layers": [
            _layer(layer, None if last is None else last.layers.get(name), unit)
            for name, layer in flow.layers.items()
        ],
        "notes": list(_how(flow)),
    }


def _loss(flow: GradientFlow) -> list[str]:
    return [] if flow.meta.get("loss_seen") is False else [f"Loss: {flow.loss:.4g}."]


def _layer(layer: LayerFlow, last: LayerFlow | None, unit: str) -> dict[str, Any]:
    """Return what the template shows of one layer."""
    reach = layer.reach(LEVEL)
    profile = layer.lag_profile
    ahead = "ahead" if layer.reverse else "back"
    pictures = list(_by_step(layer, unit))
    if last is not None:
        pictures = [*_by_distance(last, unit), *pictures]
    return {
        "name": layer.name,
        "cell": f"{layer.kind}, {layer.hidden_size} units, {layer.steps} {unit}s, "
        f"{layer.batch} sequence{'s' if layer.batch > 1 else ''}",
        "sentence": reach_sentence(layer, unit=unit).removeprefix(f"{layer.name}: "),
        "decay": factor(layer.decay_per_step),
        "profile": curve_svg(
            profile,
            title=f"What is left of the gradient of {layer.name}, by {unit}s {ahead}",
            x_label=f"{unit}s {ahead}",
            level=LEVEL,
            marked=reach,
        )
        if len(profile)
        else "",
        "lags": [(lag, _left(profile[lag])) for lag in _lags(profile)],
        "ahead": ahead,
        "pictures": pictures,
        "notes": layer.notes,
    }


def _lags(profile: Array) -> list[int]:
    if not len(profile):
        return []
    return sorted({lag for lag in LAGS_SHOWN if lag < len(profile)} | {len(profile) - 1})


def _left(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.3g} %"


def _by_step(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield each step's term of the recurrent weight's gradient, where there is such a weight."""
    if not any(name.startswith("weight_hh") for name in layer.contributions):
        return
    weight = recurrent_weight(layer)
    many = len(layer.loss_steps) > 1
    caption = f"Size of each {unit}'s term in the gradient of {weight}, by position"
    if many:
        caption += (
            f". Every {unit} has a loss of its own here: this tells early {unit}s from late "
            "ones, not near from far."
        )
    yield {
        "caption": caption,
        "svg": curve_svg(
            np.asarray(layer.contributions[weight]),
            title=f"Contributions to the gradient of {layer.name} {weight}, by position",
            x_label=f"{unit}, from the beginning of the sequence",
        ),
        "table": [],
    }


def _by_distance(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield each step's term by its distance from the only loss step, with the stretches."""
    try:
        parts = stretches(layer)
    except ValueError:  # the last steps of the rows do not coincide, or no recurrent weight
        return
    weight = recurrent_weight(layer)
    position = layer.loss_steps[0]
    position = layer.steps - 1 - position if layer.reverse else position
    yield {
        "caption": f"Size of each {unit}'s term in the gradient of {weight}, by distance, when "
        f"the loss reads the last {unit} alone",
        "svg": curve_svg(
            np.asarray(layer.contributions[weight][position::-1]),
            title=f"Contributions to the gradient of {layer.name} {weight}, by distance",
            x_label=f"{unit}s before the loss",
        ),
        "table": [(part.label, percent(part.share)) for part in parts],
    }


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
