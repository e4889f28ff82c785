"""Runs small training scripts in this process: treated by interception, and patched by hand."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from gradreach.treatments import Interception, treatment_from
from gradreach.treatments.patch import patch_of
from gradreach.treatments.places import note_places

Weights = list[torch.Tensor]


def run(script: Path) -> Weights:
    """Run a script as `python SCRIPT` would, seeded; return its `weights`."""
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    main = ModuleType("__main__")
    main.__file__ = str(script)
    own, sys.modules["__main__"] = sys.modules["__main__"], main
    started: list[Interception] = []  # a patched script may treat itself from its top
    start = Interception.start

    def noted(run: Interception) -> Interception:
        started.append(run)
        return start(run)

    Interception.start = noted
    try:
        exec(compile(script.read_bytes(), str(script), "exec"), main.__dict__)
    finally:
        sys.modules["__main__"], Interception.start = own, start
        for each in reversed(started):
            each.stop()
    return [weight.detach().clone() for weight in main.weights()]


def treated_and_patched(
    folder: Path, text: str | bytes, label: str
) -> tuple[Weights, Weights, str]:
    """Run a script treated, then patch it by the places of an untreated run, and run it again.

    Returns:
        The final weights of both, and the script as patched.
    """
    script = folder / "train.py"
    script.write_bytes(text.encode() if isinstance(text, str) else text)
    treatment = treatment_from(label)
    with Interception() as intercepted:
        treatment.install(intercepted)
        trial = run(script)
    with Interception() as control:  # as `gradreach cure` does: its control notes the places
        note_places(control)
        run(script)
    apply_patch(folder, patch_of(treatment.edits(control.sites), root=folder).data)
    return trial, run(script), script.read_bytes().decode("utf-8", "replace")


def apply_patch(folder: Path, data: bytes, program: str = "") -> None:
    """Apply a patch with the `patch` program, or with git where that is not there."""
    (folder / "fix.patch").write_bytes(data)
    program = program or ("patch" if shutil.which("patch") else "git")
    command = {
        "patch": ["patch", "-p0", "--binary", "-s", "-i", "fix.patch"],
        "git": ["git", "apply", "-p0", "--whitespace=nowarn", "fix.patch"],
    }[program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{data.decode(errors='replace')}"


def assert_same_bits(one: Weights, other: Weights) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine, theirs), f"{(mine - theirs).abs().max()}"
