"""``gradreach cure --needs-lag``: what the user knows of the task decides what needs treating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gradreach.cli import main

# A default tanh RNN over 40 steps: its gradient reaches some ten steps back.
FADING = """
import torch
from torch import nn

rnn, head = nn.RNN(1, 16, batch_first=True), nn.Linear(16, 1)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-3)
for step in range(30):
    x = torch.randn(16, 40, 1)
    loss = nn.functional.mse_loss(head(rnn(x)[0][:, -1]), x[:, -3:].mean(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def cured(folder: Path, *options: str) -> dict[str, Any]:
    (folder / "fading.py").write_text(FADING)
    ended = CliRunner().invoke(
        main, ["cure", "--study", "study", "--seeds", "2", "--json", *options, "fading.py"]
    )
    return json.loads(ended.stdout)


def test_reach_that_the_task_does_not_need_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    plain = cured(tmp_path, "--needs-lag", "3")

    assert plain["verdict"] == "healthy"
    assert plain["needs_lag"] == 3
    page = (tmp_path / "study" / "report.html").read_text()
    assert "you said that the task must look 3 steps back" in page
    assert len(list((tmp_path / "study" / "trials").iterdir())) == 1


@pytest.mark.slow
def test_reach_that_the_task_needs_is_an_error_and_treated_by_that_lag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    plain = cured(tmp_path, "--needs-lag", "30", "--treatments", "gating")

    (found,) = [each for each in plain["findings"] if each["code"] == "vanishing-gradient"]
    assert found["severity"] == "error"
    labels = {trial["treatment"] for trial in plain["trials"]}
    assert "gating(GRU) + initialization(chrono, max_lag=30)" in labels
