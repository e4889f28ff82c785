"""States come back from a file as they were; a changed bit is seen."""

from __future__ import annotations

from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

from gradreach.training.state_file import read_state, state_bytes


def test_state_comes_back_to_the_bit(tmp_path):
    weight = torch.randn(3, 2)
    state = {
        "views": [weight.T, weight[1], torch.tensor(2), torch.zeros(0, 4)],
        "kinds": [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.bool, torch.int64)],
        0: {(1, "a"): (0.1, float("-inf"), None, True, 2**70)}, "count": Counter({5: 2}),
        "odd": torch.tensor([float("nan"), -0.0, 5e-324], dtype=torch.float64),
    }  # fmt: skip
    path = tmp_path / "a"
    path.write_bytes(state_bytes(state))

    found = read_state(path)

    assert repr(found) == repr(state)
    assert isinstance(found["count"], Counter)
    odd = (each["odd"].view(torch.int64).tolist() for each in (found, state))
    assert next(odd) == next(odd)


def test_optimizer_goes_on_from_what_was_read(tmp_path):
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    (tmp_path / "a").write_bytes(state_bytes(OrderedDict(optimizer.state_dict())))

    other = torch.optim.Adam(nn.Linear(2, 2).parameters())
    other.load_state_dict(read_state(tmp_path / "a"))

    assert repr(other.state_dict()) == repr(optimizer.state_dict())


@pytest.mark.parametrize("place", [-1, -9, 200])
def test_changed_bit_is_seen(tmp_path, place):
    content = bytearray(state_bytes({"weights": torch.arange(4.0), "text": "x" * 300}))
    content[place] ^= 1
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(Exception, match="checksum|header|deserializ"):
        read_state(tmp_path / "a")


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="it holds a function, which is neither tensor nor plain"):
        state_bytes({"factor": test_what_is_no_data_is_refused})
