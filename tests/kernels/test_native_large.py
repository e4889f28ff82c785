"""Arrays of more than 2^31 elements: the core's offsets do not overflow."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from tests.kernels.native_calls import LayerCall, drawn_call, upstream_of

from gradreach.kernels.native import core

FAR = 2**31 + 5  # elements from a step, or a row, to the next


@pytest.fixture
def sparse(tmp_path, lacks):
    """Map a file of holes: its size counts on no disk, only what is written to does."""
    core.load() or lacks(f"a native core: {core.why_not_loaded()}")

    def mapped(elements: int) -> torch.Tensor:
        path = tmp_path / f"holes{len(list(tmp_path.iterdir()))}"
        try:
            with path.open("wb") as file:
                os.truncate(file.fileno(), 4 * elements)
        except OSError:
            lacks("a file system that keeps files of holes")
        if path.stat().st_blocks * 512 > 2**20 or shutil.disk_usage(tmp_path).free < 2**26:
            lacks("a file system that keeps files of holes")
        return torch.from_file(str(path), shared=True, size=elements, dtype=torch.float32)

    return mapped


def far_apart(x: torch.Tensor, dim: int, memory: torch.Tensor) -> torch.Tensor:
    """Return the same numbers, with `FAR` elements between neighbours of one dimension."""
    strides = list(x.stride())
    strides[dim] = FAR
    return memory.as_strided(x.shape, strides).copy_(x)


def gradients(call: LayerCall, upstream) -> list[torch.Tensor]:
    call = call.requiring()
    results, leaves = call.run(), [x for x in call.operands if x is not None]
    return [*(x.detach() for x in results), *torch.autograd.grad(results, leaves, upstream)]


@pytest.mark.parametrize("dim", [0, 1], ids=["steps", "rows"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_elements_beyond_two_to_the_31_are_read_at_their_place(kind, dim, sparse):
    call = drawn_call(kind, sizes=(3, 2, 3, 5), dtype=torch.float32, skips=(2,))
    upstream = upstream_of(call.requiring().run())
    last = (call.inputs.shape[dim] - 1) * FAR + 100
    wanted = gradients(call, upstream)

    inputs = far_apart(call.inputs, dim, sparse(last))
    given = [far_apart(upstream[0], dim, sparse(last)), *upstream[1:]]
    got = gradients(call.on((inputs, *call.operands[1:])), given)

    # 12 GB of addresses, and the same bits as from 72 bytes.
    assert inputs.stride(dim) == given[0].stride(dim) == FAR
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_packed_rows_beyond_two_to_the_31_are_read_at_their_place(kind, sparse):
    call = drawn_call(kind, sizes=(3, 2, 3, 5), dtype=torch.float32, lengths=[3, 1], reverse=True)
    upstream = upstream_of(call.requiring().run())
    wanted = gradients(call, upstream)

    inputs = far_apart(call.inputs, 0, sparse(3 * FAR + 100))
    got = gradients(call.on((inputs, *call.operands[1:])), upstream)

    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
