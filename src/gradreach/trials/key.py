"""What a trial is, as a hash: same key, same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gradreach import __version__
from gradreach.trials.own_code import code_digest
from gradreach.trials.sources import digest_of, named_files, own_modules
from gradreach.trials.spec import TrialSpec
from gradreach.trials.target import FunctionTarget, Target

__all__ = ["identity_of", "key_of"]

LENGTH = 20  # hexadecimal digits: 80 bits; two of a million trials collide once in 10^12 studies


def key_of(spec: TrialSpec, identity: Mapping[str, Any] | None = None) -> str:
    """Return the name of a trial's folder.

    Limits of time and memory are left out: a trial that kept within them is the same trial.

    Args:
        spec: The trial.
        identity: What :func:`identity_of` says of it, where that is known: it reads files.

    Example:
        >>> from gradreach.trials.target import ScriptTarget
        >>> one = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"), timeout=60)
        >>> other = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"), timeout=90)
        >>> key_of(one) == key_of(other), key_of(one) == key_of(one.with_budget(10))
        (True, False)
    """
    own = {
        "treatment": None if spec.treatment is None else dict(spec.treatment),
        "label": spec.label,
        "seed": spec.seed,
        "budget": spec.budget,
    }
    return _hash({"of": identity_of(spec) if identity is None else identity, "trial": own})


def identity_of(spec: TrialSpec) -> dict[str, Any]:
    """Return what all trials of a study share.

    Target, contents of its files, metric, threads, how far the task looks back, versions.
    """
    return {
        "target": spec.target.to_dict(),
        "files": _contents(spec.target),
        "metric": spec.metric.to_dict(),
        "threads": spec.threads,
        "needs_lag": spec.needs_lag,
        "versions": {
            "gradreach": __version__,
            "its code": code_digest(),
            "torch": _torch_version(),
        },
        "native core": code_digest("native"),
    }


def _contents(target: Target) -> dict[str, str]:
    """Return the SHA-256 of every file that decides what the target does."""
    if isinstance(target, FunctionTarget):
        files = own_modules(Path(target.file))
    else:
        script = Path(target.cwd, target.path)
        files = [*own_modules(script), *named_files(target.args, target.cwd)]
    return {str(path): digest_of(path) for path in files}


def _torch_version() -> str:
    """Return torch's version without importing it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return "unknown"


def _hash(plain: dict[str, Any]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:LENGTH]
