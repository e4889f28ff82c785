"""The native kernels among threads, processes, and what torch builds of them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tests.kernels.native_calls import (
    KINDS,
    TOLERANCE,
    assert_all_close,
    differentiated,
    drawn_call,
    upstream_of,
)

import gradreach as gr
from gradreach.kernels.native import core

NAMES = ["RNN", "GRU", "LSTM"]
SOURCES = str(Path(gr.__file__).parents[1])


@pytest.fixture(autouse=True)
def native(lacks):
    return core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture
def threads():
    """Set torch's number of threads for a while."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def large(kind: str, **how):
    """Return a call that is worth several threads."""
    return drawn_call(kind, sizes=(20, 24, 16, 64), **how)


# ---- threads


@pytest.mark.parametrize("lengths", [None, [20, *range(1, 20), 3, 3, 3, 7]], ids=["", "ragged"])
@pytest.mark.parametrize("batch", [24, 3], ids=["many rows", "few rows"])
@pytest.mark.parametrize("kind", KINDS)
def test_number_of_threads_changes_roundings_only(kind, batch, lengths, threads):
    if lengths is not None:
        lengths = lengths[:batch]
    call = drawn_call(kind, sizes=(20, batch, 16, 160), skips=(2,), lengths=lengths)
    upstream = upstream_of(call.requiring().run())
    threads(1)
    wanted = differentiated(call, upstream)

    for count in (2, 3):
        threads(count)
        got = differentiated(call, upstream)

        assert_all_close(got, wanted, TOLERANCE[torch.float64])
        again = differentiated(call, upstream)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_python_threads_that_call_at_once_get_their_own_results(kind, count, threads):
    threads(count)
    calls = [large(kind) for _ in range(4)]
    upstream = [upstream_of(call.requiring().run()) for call in calls]
    wanted = list(map(differentiated, calls, upstream))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(differentiated, calls * 8, upstream * 8))

    for got, expected in zip(found, wanted * 8, strict=True):
        # Threads of a pool start with torch's default number: other roundings, same numbers.
        assert_all_close(got, expected, TOLERANCE[torch.float64])


def test_other_python_threads_run_during_a_call(threads):
    threads(1)
    call = drawn_call("rnn", sizes=(400, 32, 64, 256), dtype=torch.float32)
    counted = 0

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call.run)
        while not running.done():
            counted += 1

    # Held throughout, the lock would let this loop pass only at its ends.
    assert counted > 100


def test_one_graph_is_run_backwards_from_another_thread():
    call = large("gru").requiring()
    results = call.run()
    upstream = upstream_of(results)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.autograd.backward, results, upstream).result()

    got = [x.grad for x in call.operands if x is not None]
    assert_all_close(got, differentiated(call, upstream)[2:], TOLERANCE[torch.float64])


# ---- processes


def in_a_process(code: str, *arguments: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": SOURCES, **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
import multiprocessing, torch, gradreach as gr
torch.set_num_threads(2)
layer, x = gr.nn.GRU(16, 64), torch.randn(20, 24, 16)

def train():
    layer.zero_grad()
    layer(x)[0].square().sum().backward()
    return layer.weight_hh_l0.grad.clone()

def child(queue):
    queue.put(train().numpy())

if __name__ == "__main__":
    before = train()  # starts the threads
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    children = [fork.Process(target=child, args=(queue,)) for _ in range(2)]
    for process in children:
        process.start()
    found = [torch.from_numpy(queue.get(timeout=60)) for _ in children]
    for process in children:
        process.join(60)
    assert [process.exitcode for process in children] == [0, 0]
    for got in found:
        torch.testing.assert_close(got, before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(train(), before, rtol=0, atol=0)
    print("alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks with threads are Linux's habit")
def test_fork_after_threads_were_used_does_not_hang():
    assert in_a_process(FORK) == "alive\n"


WORKERS = """
import torch, gradreach as gr
torch.set_num_threads(2)
layer = gr.nn.LSTM(16, 64)

class Encoded(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        with torch.no_grad():
            return layer(torch.randn(20, 24, 16, generator=generator))[0]

def batches(**how):
    return torch.cat(list(torch.utils.data.DataLoader(Encoded(), 2, **how)))

if __name__ == "__main__":
    here = batches()
    torch.testing.assert_close(batches(num_workers=2, timeout=60), here, rtol=0, atol=1e-6)
    print("alive")
"""


def test_data_loader_workers_run_the_layer():
    assert in_a_process(WORKERS) == "alive\n"


DISTRIBUTED = """
import sys, torch, gradreach as gr
import torch.distributed as dist
rank, name, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
torch.manual_seed(7)
model = torch.nn.Sequential()
model.rnn = getattr(gr.nn, name)(3, 5, 2, skip=2, dtype=torch.float64)
x, y = torch.randn(6, 8, 3, dtype=torch.float64), torch.randn(6, 8, 5, dtype=torch.float64)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = model.rnn
    def forward(self, x):
        return self.rnn(x)[0]

def loss(net, x, y):
    return (net(x) - y).square().mean()

alone = Net()
wanted = torch.autograd.grad(loss(alone, x, y), list(alone.parameters()))
net = torch.nn.parallel.DistributedDataParallel(Net())
for _ in range(2):
    net.zero_grad()
    rows = slice(4 * rank, 4 * rank + 4)
    loss(net, x[:, rows], y[:, rows]).backward()
for parameter, gradient in zip(net.parameters(), wanted):
    torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-13)
dist.destroy_process_group()
print("equal")
"""


@pytest.mark.parametrize("name", NAMES)
def test_gradients_averaged_over_two_processes_are_those_of_the_whole_batch(name, tmp_path, lacks):
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        lacks("torch.distributed with gloo")
    env = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DISTRIBUTED, rank, name, str(tmp_path / "s")],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip

    told = [process.communicate(timeout=100) for process in started]

    assert [out for out, _ in told] == ["equal\n"] * 2, told


@pytest.mark.parametrize("name", NAMES)
def test_data_parallel_passes_through_on_the_cpu(name):
    layer = getattr(gr.nn, name)(3, 5)
    x = torch.randn(4, 2, 3)

    output = torch.nn.DataParallel(layer)(x)[0]
    output.sum().backward()

    assert torch.equal(output, layer(x)[0])
    assert layer.weight_hh_l0.grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_two_layers_that_share_weights_add_their_gradients(name):
    layer = getattr(gr.nn, name)(5, 5)
    twin = getattr(gr.nn, name)(5, 5)
    for key in dict(layer.named_parameters()):
        setattr(twin, key, getattr(layer, key))
    x = torch.randn(4, 2, 5)

    twin(layer(x)[0])[0].sum().backward()
    together = layer.weight_hh_l0.grad.clone()

    between = layer(x)[0].detach().requires_grad_()
    layer.zero_grad()
    twin(between)[0].sum().backward()
    layer(x)[0].backward(between.grad)
    torch.testing.assert_close(layer.weight_hh_l0.grad, together, rtol=1e-5, atol=1e-6)


FEWER = """
import torch
from gradreach.kernels.native.rows import slopes_below, unit_sums
torch.set_num_threads(2)
wide, narrow = torch.rand(9, 8000, 32), torch.rand(9, 8000, 16)
lengths = torch.full((8000,), 9)
for _ in range(2):  # the memory of the one is that of the other before
    low, _ = slopes_below(wide, lengths, 2.0, relu=False)
    assert (low == 9 * 8000).all()
    torch.testing.assert_close(unit_sums(narrow, lengths).per_unit, narrow.double().sum((0, 1)))
print("right")
"""


def test_sums_of_units_are_right_where_the_runtime_gives_fewer_threads():
    assert in_a_process(FEWER, OMP_THREAD_LIMIT="1") == "right\n"
