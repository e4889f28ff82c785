"""The whole way: a trial in a fresh process, the patch by its program, the script run by Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.treatments.step_scripts import SCRIPTS
from tests.treatments.trials import apply_patch

from gradreach.treatments import RunFacts, patch_of, treatment_from

LABELS = (
    "gating(GRU) + clipping(norm=0.05) + learning_rate(factor=0.1)",
    "learning_rate(cosine=5)",
    "truncation(windows=2)",
)
END = """

import hashlib
from pathlib import Path

digest = hashlib.sha256(b"".join(w.detach().numpy().tobytes() for w in weights())).hexdigest()
Path("digest.txt").write_text(digest)
"""
TRIAL = """
import json, sys
from gradreach.script.trial_run import run_script_trial
from gradreach.treatments import treatment_from
label = sys.argv[1]
trial = run_script_trial("train.py", treatment=treatment_from(label) if label else None)
assert trial.outcome == "finished", trial.message
open("facts.json", "w").write(json.dumps(trial.meta["facts"]))
"""


def in_process(folder: Path, *arguments: str) -> str:
    """Run Python in a folder, on one thread; return the digest of the weights."""
    (folder / "digest.txt").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (folder / "digest.txt").read_text()


def told(folder: Path, label: str) -> RunFacts:
    in_process(folder, "-c", TRIAL, label)
    return RunFacts.from_dict(json.loads((folder / "facts.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "scaled-fused", "stateful", "trainer"])
def test_patched_script_run_by_python_gives_the_trial_s_weights(tmp_path, name):
    text = SCRIPTS[name].replace("import torch\n", "import torch\n\ntorch.manual_seed(5)\n", 1)
    script = tmp_path / "train.py"
    script.write_text(text + END)
    control = in_process(tmp_path, "train.py")
    facts = told(tmp_path, "")

    for label in LABELS:
        script.write_text(text + END)
        trial = in_process(tmp_path, "-c", TRIAL, label)
        edits = treatment_from(label).edits(facts.sites)
        apply_patch(tmp_path, patch_of(edits, root=tmp_path).data)

        assert in_process(tmp_path, "train.py") == trial, label
        assert trial != control
