"""What a watch tells while it runs and what its journal tells afterwards are the same bits."""

from __future__ import annotations

import numpy as np
import torch

import gradreach
from gradreach.runs.journal import read_journal


def test_journal_holds_the_history_of_the_watch_bit_for_bit(tmp_path):
    model = torch.nn.LSTM(2, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    with gradreach.watch(model, optimizer, run=tmp_path / "run", every=3, needs_lag=9) as watched:
        for step in range(12):
            optimizer.zero_grad()
            loss = model(torch.rand(15, 3, 2))[0][-1].square().mean()
            (loss * float("nan") if step == 8 else loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    live, journal = watched.history, read_journal(tmp_path / "run")

    read = journal.history
    assert (journal.ended, journal.complaints) == (True, [])
    assert len(read) == len(live) > 0
    for name, column in live.rows.items():
        assert np.array_equal(read[name], column, equal_nan=True), name
    for mine, its in ((read.samples, live.samples), (read.probes, live.probes)):
        assert [repr(each.to_dict()) for each in mine] == [repr(each.to_dict()) for each in its]
    assert len(live.samples) >= 4
    assert [repr(event) for event in read.events] == [repr(event) for event in live.events]
    assert read.needs_lag == live.needs_lag == 9
    assert not (tmp_path / "run" / "journal.lock").exists()
