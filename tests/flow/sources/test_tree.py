"""Tensors are found and replaced in every container that cells use for their state."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple

import torch

from gradreach.flow.sources.tree import mapped, tensors_in

Pair = namedtuple("Pair", ["h", "c"])


@dataclasses.dataclass(frozen=True)
class Frozen:
    h: torch.Tensor
    name: str = "n"
    length: int = dataclasses.field(init=False, default=3)


def test_containers_keep_their_type_and_all_else() -> None:
    one = torch.ones(1)
    value = [Pair(one, (one, None)), OrderedDict(h=one, step=4), Frozen(one), "text"]
    found = mapped(value, lambda path, tensor: tensor + 1)
    assert isinstance(found[0], Pair)
    assert float(found[0].h) == float(found[0].c[0]) == 2
    assert found[0].c[1] is None
    assert isinstance(found[1], OrderedDict)
    assert found[1]["step"] == 4
    assert float(found[1]["h"]) == float(found[2].h) == 2
    assert (found[2].name, found[2].length, found[3]) == ("n", 3, "text")
    assert float(value[2].h) == float(one) == 1  # the original is left alone


def test_paths_tell_where_a_tensor_stands() -> None:
    one = torch.ones(1)
    value = (one, {"state": [one, 2, one]}, Frozen(one))
    assert list(tensors_in(value)) == [
        (0,),
        (1, "state", 0),
        (1, "state", 2),
        (2, "h"),
    ]
