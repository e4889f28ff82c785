"""The state of a training on disk: written whole or not at all, read without running anything."""

from __future__ import annotations

import os
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradreach.errors import GradreachError
from gradreach.runs.files import write_whole
from gradreach.training.state_file import read_state, state_bytes

__all__ = ["CheckpointError", "Course", "read_checkpoint", "write_checkpoint"]

VERSION = 1


class CheckpointError(GradreachError, ValueError):
    """A file holds no state that this training could go on from."""


@dataclass(slots=True, eq=False)
class Course:
    """How a run has gone so far.

    Attributes:
        losses: Before each optimizer step. evaluations: Step and scores of each.
        broken: Latest losses in a row that were not finite.
        stopped: Why it has ended, if it has before its last step.
        seconds: Of wall time, of all runs that it took.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    broken: int = 0
    stopped: str | None = None
    seconds: float = 0.0


def write_checkpoint(path: str | os.PathLike[str], course: Course, parts: dict[str, Any]) -> None:
    """Write where a run stands: its course, its parts, and the streams of random numbers.

    Args:
        path: The file; what stood there is replaced in one step.
        course: So far. parts: Model, optimizer, scheduler: whatever has a ``state_dict``.

    Raises:
        CheckpointError: A part's state is more than tensors and plain data.
        WriteError: The file cannot be written; what stood there still stands.

    Example:
        >>> import tempfile
        >>> layer, course = torch.nn.Linear(1, 1), Course(losses=[0.5])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_checkpoint(Path(folder) / "a.safetensors", course, {"model": layer})
        ...     read_checkpoint(Path(folder) / "a.safetensors", {"model": layer}).losses
        [0.5]
    """
    try:
        held = state_bytes({
            "gradreach_checkpoint": VERSION,
            "course": {
                **asdict(course),
                "losses": torch.tensor(course.losses, dtype=torch.float64),
            },
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "random": _streams(),
        })  # fmt: skip
    except TypeError as error:
        raise CheckpointError(
            f"Training.run(): argument 'checkpoint' cannot be used with this training ({error}): "
            "leave it out"
        ) from error
    write_whole(path, held)


def read_checkpoint(path: str | os.PathLike[str], parts: dict[str, Any]) -> Course | None:
    """Put a training back where a file says it stood; ``None`` where there is no such file.

    Only tensors and plain data are read from it: nothing in the file is run.

    Raises:
        CheckpointError: The file is damaged, or of another training.
    """
    place = Path(path)
    if not place.exists():
        return None
    try:
        found = read_state(place)
        sound = found["gradreach_checkpoint"] == VERSION and found["parts"].keys() == parts.keys()
    except Exception as error:  # the reader raises what it happens to meet
        raise CheckpointError(_no_use(place, f"it cannot be read: {_first_line(error)}")) from error
    if not sound:
        raise CheckpointError(_no_use(place, "it was written by another kind of training"))
    try:
        for name, part in parts.items():
            part.load_state_dict(found["parts"][name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            _no_use(place, f"it is of another model or optimizer: {_first_line(error)}")
        ) from error
    _put_back(found["random"])
    return Course(**{**found["course"], "losses": found["course"]["losses"].tolist()})


def _streams() -> dict[str, Any]:
    """Return where the streams of random numbers stand that a training may draw from."""
    name, words, at, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
        "numpy": (str(name), torch.from_numpy(np.asarray(words, np.int64)), at, has_gauss, gauss),
        "python": random.getstate(),
    }


def _put_back(streams: dict[str, Any]) -> None:
    torch.set_rng_state(streams["torch"])
    if streams["cuda"]:
        torch.cuda.set_rng_state_all(streams["cuda"])
    name, words, *rest = streams["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(streams["python"])


def _no_use(place: Path, why: str) -> str:
    return (
        f"Training.run(): argument 'checkpoint' must name a file of this training or none yet; "
        f"'{place}' is no such file ({why}): remove it or name another one"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] or type(error).__name__
