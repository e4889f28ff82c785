"""Ctrl-C ends the running trials and leaves a study that can be taken up again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.trials.test_local import wait_until_gone

PROGRAM = """
import time
from pathlib import Path
import gradreach

def build(seed):
    Path(f"started{seed}").touch()
    if seed:
        import os
        Path("pid").write_text(str(os.getpid()))
        time.sleep(600)
    return 0.5

if __name__ == "__main__":
    gradreach.compare(build, [], seeds=[0, 1, 2], study="study", progress=True)
"""


def test_interrupted_study_keeps_its_results_and_leaves_no_process(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    driver = subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert driver.stderr is not None
    first = driver.stderr.readline()  # the first trial has ended, the second begins
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert driver.poll() is None
        time.sleep(0.02)

    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate(timeout=60)

    assert driver.returncode in (1, -signal.SIGINT, 130)
    assert "control, seed 0: finished, metric 0.5" in first
    assert "Interrupted. What has ended is kept in 'study': the same command again" in told
    assert len(list((tmp_path / "study").glob("trials/*/result.json"))) == 1
    assert not (tmp_path / "study" / "journal.lock").exists()
    assert not (tmp_path / "started2").exists()
    wait_until_gone(int(pid.read_text()))
