"""What a framework's run must share with the plain loop, as numbers and as a verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from proofs._adapters.plain import Trained
from torch import Tensor

import gradreach as gr

# torch's clipping adds squares in float32 and the watch need not add in the same order: a norm
# of some thousand terms is then known to a few units in the last place (1.2e-7 each).
NORM_TOLERANCE = 1e-6


def same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two trainings ended in the same weights."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def clip_rate(history: gr.History) -> float:
    """Return the share of steps whose gradient got smaller before the optimizer saw it."""
    return float(np.mean(history["clipped_norm"] < history["gradient_norm"]))


def farthest(norms: np.ndarray, others: np.ndarray) -> float:
    """Return the largest relative difference; infinite where the numbers of steps differ."""
    if norms.shape != others.shape or not np.isfinite(norms).all():
        return float("inf")
    return float(np.max(np.abs(norms - others) / np.abs(others)))


def sampled_reaches(history: gr.History, prefix: str = "") -> dict[int, dict[str, int | None]]:
    """Return the reach of each layer in each sample, by step."""
    return {
        sample.step: {
            name.removeprefix(prefix): layer.reach for name, layer in sample.layers.items()
        }
        for sample in history.samples
    }


def compared(
    loop: Trained, watched_loop: Trained, unwatched: Trained, watched: Trained, prefix: str = ""
) -> dict[str, Any]:
    """Compare the plain loop, alone and watched, with the framework, alone and watched.

    The loop's own norms are what torch's clipping returned to it; its reaches are those of
    `gr.measure`. Neither knows the watch.

    Args:
        prefix: Of the layers' names in the framework, where its module holds the loop's.
    """
    assert watched.history is not None
    assert watched_loop.history is not None
    history, twin = watched.history, watched_loop.history
    norms = np.asarray(loop.norms)
    reaches = sampled_reaches(history, prefix)
    rate = float(np.mean(norms > loop.threshold))
    checks = {
        "training unchanged by the adapter": same_bits(watched.weights, unwatched.weights),
        "training is the plain loop's": same_bits(unwatched.weights, loop.weights),
        "norms are the watched loop's": np.array_equal(
            history["gradient_norm"], twin["gradient_norm"]
        ),
        "norms are what clipping told the loop": (
            farthest(history["gradient_norm"], norms) <= NORM_TOLERANCE
        ),
        "clip rate is the loop's": clip_rate(history) == rate == clip_rate(twin),
        "some steps clipped, some not": 0 < rate < 1,
        "reaches are the watched loop's": bool(reaches) and reaches == sampled_reaches(twin),
        "reaches are those of gr.measure": all(
            reaches.get(step) == measured for step, measured in loop.reaches.items()
        )
        and bool(loop.reaches),
        "nothing of the watch failed": not [e for e in history.events if e.kind == "fault"],
    }
    return {
        "checks": checks,
        "steps": len(history),
        "norms": {
            "first": float(history["gradient_norm"][0]),
            "last": float(history["gradient_norm"][-1]),
            "farthest_from_the_watched_loop": farthest(
                history["gradient_norm"], twin["gradient_norm"]
            ),
            "farthest_from_clipping": farthest(history["gradient_norm"], norms),
            "tolerance": NORM_TOLERANCE,
        },
        "clip_rate": {"adapter": clip_rate(history), "loop": rate},
        "reaches": {str(step): reach for step, reach in reaches.items()},
    }


def tell(figures: Mapping[str, Any], packages: tuple[str, ...]) -> int:
    """Write the figures where the caller asked for them; return 1 where a check failed."""
    versions = {name: version(name) for name in ("torch", *packages)}
    failed = [name for name, held in figures["checks"].items() if not held]
    text = json.dumps({**figures, "versions": versions, "failed": failed}, indent=1)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return int(bool(failed))
