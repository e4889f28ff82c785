"""From a watched run to the facts that treatments are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradreach.treatments.facts import LayerFacts, OptimizerFacts, RunFacts
from gradreach.treatments.sites import Site

if TYPE_CHECKING:
    from gradreach.monitor.session import Session

__all__ = ["facts_of_run"]

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LAYER_ARGUMENTS = (
    "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout",
    "bidirectional", "proj_size",
)  # fmt: skip


def facts_of_run(
    session: Session, sites: Sequence[Site], *, steps: int, seconds: float
) -> RunFacts:
    """Gather what is known of a run that has ended.

    Args:
        session: The watch. sites: What the interception met.
        steps: Optimizer steps made. seconds: What they took.
    """
    history = session.history()
    norms = history["gradient_norm"]
    norms = norms[np.isfinite(norms)]
    clips = history["clip_calls"]
    thresholds = history["clip_threshold"]
    thresholds = thresholds[np.isfinite(thresholds)]
    lengths = [layer.steps for _, flow in session.flows for layer in flow.layers.values()]
    carried = session.watch.carried.found is not None or any(
        finding.code in ("truncated-gradient", "growing-graph") for finding in session.findings()
    )
    return RunFacts(
        layers=tuple(_layer(site, session, carried) for site in sites if site.kind == "layer"),
        optimizers=tuple(_optimizer(site) for site in sites if site.kind == "optimizer"),
        steps=steps,
        seconds=seconds,
        sequence_steps=max(lengths, default=None),
        gradient_norms={share: float(np.quantile(norms, share)) for share in SHARES if len(norms)},
        clip_calls=float(np.nanmean(clips)) if np.isfinite(clips).any() else 0.0,
        clip_kind="norm" if len(thresholds) else "",
        clip_threshold=float(thresholds[-1]) if len(thresholds) else float("nan"),
        scheduler=_scheduled(history["learning_rate"]),
        detached=tuple(site for site in sites if site.kind == "detach"),
        backward=tuple(site for site in sites if site.kind == "backward"),
        needs_lag=session.options.needs_lag,
        sites=tuple(sites),
    )


def _layer(site: Site, session: Session, carried: bool) -> LayerFacts:
    torch_class = site.what.rpartition(".")[2]
    kind = torch_class.lower().removesuffix("cell")
    given = {name: site.numbers[name] for name in LAYER_ARGUMENTS if name in site.numbers}
    flows = [
        (name, layer)
        for _, flow in session.flows
        for name, layer in flow.layers.items()
        if layer.hidden_size == given.get("hidden_size") and _same(kind, layer.kind)
    ]
    return LayerFacts(
        kind=kind if kind in ("rnn", "gru", "lstm") else "own",
        cell=torch_class.endswith("Cell"),
        class_name=str(site.numbers.get("class", site.what)),
        treatable=not site.left,
        left=site.left,
        steps=max((layer.steps for _, layer in flows), default=None),
        carried=carried,
        names=tuple(dict.fromkeys(name for name, _ in flows)),
        site=site,
        **given,
    )


def _optimizer(site: Site) -> OptimizerFacts:
    def number(name: str) -> float:
        value: Any = site.numbers.get(name)
        return float(value) if isinstance(value, int | float) else float("nan")

    momentum, decay = number("momentum"), number("weight_decay")
    return OptimizerFacts(
        kind=site.what.rpartition(".")[2],
        lr=number("lr"),
        momentum=0.0 if momentum != momentum else momentum,
        weight_decay=0.0 if decay != decay else decay,
        site=site,
    )


def _scheduled(rates: Any) -> bool:
    """Whether the learning rate changed: what sets it, a scheduler or the user, is all one."""
    known = rates[np.isfinite(rates)]
    return bool(len(known)) and bool(known.max() > known.min())


def _same(kind: str, recorded: str) -> bool:
    """Whether a flow's kind is of a class: a plain layer is recorded by its activation."""
    gated = next((name for name in ("lstm", "gru") if name in recorded.lower()), "rnn")
    return gated == kind
