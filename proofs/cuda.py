"""What `measure` says on a GPU: against float64 on the CPU, in 16 bits, and what it costs.

    ./dev proof cuda [--device cuda] [--quick]

1. Exactness: every case of the matrix is measured on the device by torch's own layers (cuDNN on
   CUDA) and on the CPU in float64, where it is held against unrolled autograd by the test suite.
   Bounds: 1e-5 of the peak (float32, TF32 off), 1e-10 (float64).
2. 16 bits: bfloat16 and float16 under autocast, against the float64 CPU measurement of the rounded
   weights; ℓ steps back ε·(ℓ + 3) is allowed, as in tests/conformance/test_measure_half.py.
3. Cost: one pass of `measure` beside one training step.

Without such a device it says so and ends well. With one, the result goes to
benchmarks/results/cuda.json, with device and versions. ``--device cpu`` tries the proof itself.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradreach as gr
from gradreach.runs.files import write_whole
from gradreach.runs.plain_json import dumps

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "cuda.json"
KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
STEPS, BATCH, INPUTS, HIDDEN = 60, 4, 6, 32
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}
EPS = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def layer_of(kind: str, layers: int, both: bool, device: str, dtype: torch.dtype) -> nn.RNNBase:
    """Return the same layer for the same arguments, wherever it stands."""
    torch.manual_seed(1)
    made: nn.RNNBase = KINDS[kind](INPUTS, HIDDEN, layers, bidirectional=both)
    return made.to(device=device, dtype=dtype)


def inputs_of(form: str, device: str, dtype: torch.dtype) -> Any:
    """Return the same inputs for the same arguments."""
    torch.manual_seed(2)
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64).to(device=device, dtype=dtype)
    return x if form == "padded" else pack_padded_sequence(x, [STEPS, 41, 17, 3])


def read(output: Any) -> Tensor:
    """Read the last step (packed: all), each unit with a weight of its own."""
    data: Tensor = output[0] if isinstance(output[0], Tensor) else output[0].data
    data = data if data.dtype == torch.float64 else data.float()
    data = data[-1:] if data.dim() == 3 else data
    weights = torch.linspace(-1, 1, data.shape[-1], dtype=data.dtype, device=data.device)
    return (data * weights).sum() / len(data)


def flow_of(rnn: nn.RNNBase, x: Any, autocast: torch.dtype | None = None) -> gr.GradientFlow:
    """Measure one pass."""
    device = next(rnn.parameters()).device.type

    def closure() -> Tensor:
        with torch.autocast(device, dtype=autocast) if autocast else nullcontext():
            output = rnn(x)
        return read(output)

    return gr.measure(nn.ModuleDict({"rnn": rnn}), closure)


def exactness(device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield each case of the matrix with its worst difference, relative to the peak."""
    matrix = itertools.product(
        KINDS, (1,) if quick else (1, 2), (False, True), ("padded", "packed"), BOUNDS
    )
    for kind, layers, both, form, dtype in matrix:
        flow = flow_of(layer_of(kind, layers, both, device, dtype), inputs_of(form, device, dtype))
        wide = layer_of(kind, layers, both, "cpu", dtype).double()
        sure = flow_of(wide, inputs_of(form, "cpu", dtype).to(torch.float64))
        worst = 0.0
        for name, expected in sure.layers.items():
            found = flow.layers.get(name)
            if found is None:
                worst = float("inf")
                continue
            for curve in ("state_gradient_norms", "lag_profile"):
                got, right = getattr(found, curve), getattr(expected, curve)
                worst = max(worst, float(np.nanmax(np.abs(got - right)) / np.nanmax(right)))
        yield {
            "case": f"{kind} x{layers} {'both ways' if both else 'one way'} {form}",
            "dtype": str(dtype),
            "worst": worst,
            "bound": BOUNDS[dtype],
            "blind": [str(spot) for spot in flow.blind],
            "right": worst <= BOUNDS[dtype],
        }


def sixteen_bits(device: str) -> Iterator[dict[str, Any]]:
    """Yield each kind and type with its worst difference in units of what is allowed."""
    for kind, dtype in itertools.product(KINDS, EPS):
        rnn = layer_of(kind, 1, False, device, torch.float32)
        try:
            flow = flow_of(rnn, inputs_of("padded", device, torch.float32), dtype)
        except RuntimeError as error:  # torch's own kernel refuses: an LSTM in float16 on a CPU
            yield {"case": f"{kind} {dtype}", "refused": str(error)[:120], "right": True}
            continue
        rounded = deepcopy(rnn).to(device="cpu", dtype=dtype).double()
        x = inputs_of("padded", "cpu", torch.float32).to(dtype).double()
        expected = flow_of(rounded, x).layers["rnn"].state_gradient_norms
        found = flow.layers["rnn"]
        back = np.arange(STEPS)[::-1] + 4
        held = expected > 1e-6  # float16 itself ends at 6e-8
        error = np.abs(found.state_gradient_norms[held] / expected[held] - 1)
        worst = float((error / (EPS[dtype] * back[held])).max())
        yield {
            "case": f"{kind} {dtype}",
            "worst_of_allowed": worst,
            "closure": max(found.closure_error.values()),
            "right": worst <= 1,
        }


def cost(device: str, pairs: int) -> dict[str, float]:
    """Return by kind the median time of one `measure` by that of one training step."""
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None

    def seconds(work: Callable[[], object]) -> float:
        wait()
        started = time.perf_counter()
        work()
        wait()
        return time.perf_counter() - started

    found = {}
    for kind in KINDS:
        torch.manual_seed(0)
        rnn = KINDS[kind](128, 256).to(device)
        x = torch.randn(200, 32, 128, device=device)
        model = nn.ModuleDict({"rnn": rnn})
        loss = lambda rnn=rnn, x=x: rnn(x)[0].square().mean()  # noqa: E731
        step = lambda loss=loss: loss().backward()  # noqa: E731
        look = lambda model=model, loss=loss: gr.measure(model, loss)  # noqa: E731
        step(), look()
        ratios = [seconds(look) / seconds(step) for _ in range(pairs)]
        found[kind] = statistics.median(ratios)
    return found


def main() -> int:
    """Run the proof; the exit code is 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("This machine has no CUDA device that torch can use: nothing was proved.")
        return 0
    # TF32 keeps 10 bits of a float32: what is held to 1e-5 here must not be rounded so.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    cases = []
    for case in itertools.chain(
        exactness(options.device, options.quick), sixteen_bits(options.device)
    ):
        cases.append(case)
        print("ok   " if case["right"] else "WRONG", case, flush=True)
    wrong = sum(not case["right"] for case in cases)
    costs = cost(options.device, 3 if options.quick else 9)
    print(f"{len(cases)} cases, {wrong} wrong; measure by a training step: {costs}")
    if options.device == "cuda":
        result = {
            "command": " ".join(sys.argv),
            "device": torch.cuda.get_device_name(),
            "versions": {
                "gradreach": gr.__version__,
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
                "python": platform.python_version(),
            },
            "cases": cases,
            "measure_by_training_step": costs,
        }
        write_whole(RESULTS, dumps(result, indent=1) + "\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
