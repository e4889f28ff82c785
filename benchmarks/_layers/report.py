"""The section of docs/benchmarks.md, written from the JSON alone."""

from __future__ import annotations

from typing import Any

from _layers.problem import SHAPES
from _layers.speed import AGAINST, KINDS
from _layers.targets import geomean

Result = dict[str, Any]
HEADING = "## Layers"


def section(result: Result) -> str:
    """Return the whole section, heading included."""
    parts = [HEADING, _introduction(result), _targets(result)]
    if "speed" in result:
        parts += [_against(result["speed"], count) for count in reversed(result["threads"])]
        parts += [_hardware(result), _activations(result["speed"])]
    if "diagnostics" in result:
        parts.append(_diagnostics(result["diagnostics"]))
    if "ragged" in result:
        parts.append(_ragged(result["ragged"]))
    if "fixed" in result:
        parts.append(_fixed(result["fixed"]))
    return "\n\n".join(parts) + "\n"


def replaced(page: str, result: Result) -> str:
    """Return a page with its section exchanged for a new one, or with it at the end."""
    before, found, after = page.partition(f"{HEADING}\n")
    if not found:
        return f"{page.rstrip()}\n\n{section(result)}"
    _, more, later = after.partition("\n## ")
    return before + section(result) + (f"\n## {later}" if more else "")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _introduction(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    jax = f"jax {versions['jax']}" if versions.get("jax") else "no JAX in this run"
    quick = " **A quick run: few samples, not to be quoted.**" if result["quick"] else ""
    threads = " and ".join(map(str, result["threads"]))
    shapes = ", ".join(f"{name} {shape}" for name, shape in SHAPES.items())
    earlier = "".join(
        f" Section {name}: `{its['command']}`, {its['date']}."
        for name, its in result.get("earlier", {}).items()
    )
    disturbed = f"{100 * result['disturbed_share']:.0f} %"
    return (
        f"`{result['command']}`, {result['date']}:{quick} {machine['cpu']}, {machine['cpus']} "
        f"virtual cores shared with other work, native core on {machine['isa']}, torch "
        f"{versions['torch']}, {jax}; {threads} threads. Raw: `benchmarks/results/layers.json`.\n"
        f"float32, forward and backward through the public layers, Python included: gradients of x "
        f"and of all parameters for a fixed upstream gradient. Each framework in a process of its "
        f"own, visited in turn, the order reversed every other round; {result['samples']} samples "
        f"or more of each, ratios of the same round, medians. Before anything is timed all "
        f"frameworks must agree on every gradient. In {disturbed} of the visits something else "
        f"wanted the processors just before or after. Shapes (T, B, I, H): {shapes}.{earlier}"
    )


def _targets(result: Result) -> str:
    rows = []
    for row in result["targets"]:
        sign = "≥" if row["at_least"] else "≤"
        unit = row["unit"] if row["unit"] == "×" else f" {row['unit']}"
        measured = "–" if row["measured"] is None else f"{row['measured']:.3g}{unit}"
        met = {True: "met", False: "**not met**", None: "not measured"}[row["met"]]
        rows.append([row["what"], f"{sign} {row['bound']:g}{unit}", measured, met])
    return table(["target", "bound", "measured", ""], rows)


def _against(speed: Result, count: int) -> str:
    rows = []
    for name in AGAINST:
        found = [row["ratios"]["against"][str(count)].get(name) for row in speed.values()]
        if all(found):
            rows.append([name, *map("{:.2f}".format, found), f"{geomean(found):.2f}"])
    times = {}
    for shape, row in speed.items():
        for timing in row["times"]:
            if timing["threads"] == count:
                times.setdefault(timing["case"], {})[shape] = timing["ms"]
    milliseconds = [
        [case.removesuffix(" sequence"), *(f"{found[shape]:.3g}" for shape in speed)]
        for case, found in times.items()
        if len(found) == len(speed)
    ]
    plural = "" if count == 1 else "s"
    return (
        f"Time of the other over ours, {count} thread{plural}:\n\n"
        + table(["", *speed, "geomean"], rows)
        + f"\n\nMedian ms, {count} thread{plural}:\n\n"
        + table(["", *speed], milliseconds)
    )


def _hardware(result: Result) -> str:
    speed, threads = result["speed"], result["threads"]
    rows = []
    for count in map(str, threads):
        for who in ("own", "torch"):
            for kind in KINDS:
                found = [row["ratios"]["over_peak"][count][who][kind] for row in speed.values()]
                label = f"{who} {kind}, {count} thr: time / (flops / peak)"
                rows.append([label, *map("{:.2f}".format, found)])
    for kind in KINDS:
        found = [row["ratios"]["over_products"][kind] for row in speed.values()]
        rows.append([f"own {kind}: time / torch.mm floor", *map("{:.2f}".format, found)])
    if len(threads) > 1:
        for who in ("own", "torch"):
            for kind in KINDS:
                found = [row["ratios"]["scaling"][who][kind] for row in speed.values()]
                label = f"{who} {kind}: {threads[0]} → {threads[-1]} threads"
                rows.append([label, *map("{:.2f}".format, found)])
    peak = "; ".join(
        f"{count} thr {min(found):.0f}–{max(found):.0f} GFLOP/s"
        for count in map(str, threads)
        if (found := [row["peak_gflops"][count] for row in speed.values()])
    )
    return (
        f"Distance to the hardware. Peak ({result['peak_source']}): {peak}. The torch.mm floor is "
        f"the matrix products of the step alone, those of the recurrence one by one, the others "
        f"over all steps at once:\n\n" + table(["", *speed], rows)
    )


def _activations(speed: Result) -> str:
    names = next(iter(speed.values()))["ratios"]["activation_over_tanh"]
    rows = []
    for name in names:
        found = [row["ratios"]["activation_over_tanh"][name] for row in speed.values()]
        rows.append([name, *map("{:.2f}".format, found), f"{geomean(found):.2f}"])
    return "Our RNN, time over that of tanh:\n\n" + table(["", *speed, "geomean"], rows)


def _diagnostics(found: Result) -> str:
    def cell(row: Result) -> str:
        cap = "" if row["sure"] else ", cap"
        low, high = (100 * (row[name] - 1) for name in ("low", "high"))
        return f"{low:+.1f} … {high:+.1f} ({row['pairs']}{cap})"

    rows = [[kind, *map(cell, found[kind].values())] for kind in KINDS]
    head = ["", *next(iter(found.values()))]
    return (
        "What diagnostics cost, %: 95 % interval of the median of paired runs (number of pairs; "
        "“cap”: the time was over before the half-width was below 0.5 %):\n\n" + table(head, rows)
    )


def _ragged(found: Result) -> str:
    rows = [
        [
            kind,
            f"{found[kind]['packed']['ms']:.2f}",
            f"{found[kind]['padded']['ms']:.2f}",
            f"{found[kind]['over_share']:.2f}",
            f"{found[kind]['torch']['ms']:.2f}",
            f"{found[kind]['against_torch']:.2f}",
        ]
        for kind in KINDS
    ]
    head = ["", "packed ms", "padded ms", "packed / (share · padded)", "torch packed ms",
            "torch / own"]  # fmt: skip
    return (
        f"Ragged batch, B = 32, lengths 100 … 38, I = H = 128 ({found['token_share']:.2f} of the "
        f"padded tokens):\n\n" + table(head, rows)
    )


def _fixed(found: Result) -> str:
    calls = ", ".join(
        f"{kind} {row['own']['ms']:.3f} (torch {row['torch']['ms']:.3f})"
        for kind, row in found["call"].items()
    )
    first = found["first_call_ms"]
    memory = ", ".join(f"{name} {row['ratio']:.2f}×" for name, row in found["memory"].items())
    wheel = found["wheel_bytes"]
    return (
        f"Fixed cost, ms of forward + backward at T = B = 1, I = H = 4: {calls}. First forward + "
        f"backward at S2 in a fresh process, after the imports and a first backward of torch's "
        f"own ({first['before']['median']:.0f} ms): {first['own']['median']:.1f} ms "
        f"(torch.nn.RNN {first['torch']['median']:.1f}). Wheel: "
        f"{f'{wheel / 2**20:.2f} MiB' if wheel else 'not given'}. Peak memory of an RNN step "
        f"(tensors that torch allocates in it, plus all memory the core holds afterwards) over its "
        f"outputs and gradients: {memory}."
    )
