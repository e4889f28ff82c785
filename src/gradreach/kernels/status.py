"""What the kernels run on here: the native core, or plain torch and the reason for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["KernelStatus", "status"]

TORCH_LIBRARY = "libtorch_cpu.so"  # the part of torch that starts its threads, as Linux names it


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """What runs the recurrent layers of this process.

    Printed, it is one sentence for a bug report.

    Args:
        path: ``"native"`` for the compiled core, ``"reference"`` for plain torch.
        isa: Instruction set the core runs on; ``None`` on the reference path.
        compiled: Instruction sets the core was compiled for, best first.
        threads: Threads that a layer may use.
        openmp: File of the OpenMP runtime the core's threads belong to, where that is known.
        why_not_native: Why the reference path is used; ``None`` on the native path.
        warning: What makes the core slower than it could be here; ``None`` if nothing does.

    Example:
        >>> print(KernelStatus(path="native", isa="avx2", threads=2))
        native (avx2), 2 threads
    """

    path: str
    threads: int
    isa: str | None = None
    compiled: tuple[str, ...] = ()
    openmp: str | None = None
    why_not_native: str | None = None
    warning: str | None = None

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        if self.path == "native":
            sentence = f"native ({self.isa}), {threads}"
        else:
            sentence = f"reference (plain torch), {threads}: {self.why_not_native}"
        return f"{sentence}; {self.warning}" if self.warning else sentence

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data for JSON.

        Example:
            >>> KernelStatus(path="native", isa="avx2", threads=2).to_dict()["isa"]
            'avx2'
        """
        return {**asdict(self), "compiled": list(self.compiled)}


def status() -> KernelStatus:
    """Say what the recurrent layers run on in this process, and why.

    Raises:
        ValueError: The environment variable ``GRADREACH_ISA`` asks for what does not exist.

    Cost:
        The first call imports torch and loads the core; later calls take microseconds.

    Example:
        >>> status().path in ("native", "reference")
        True
    """
    import torch

    from gradreach.kernels.native.core import load, why_not_loaded

    core = load()
    if core is None:
        return KernelStatus(
            path="reference", threads=torch.get_num_threads(), why_not_native=why_not_loaded()
        )
    own = core.own_openmp_runtime()
    return KernelStatus(
        path="native",
        isa=core.isa(),
        compiled=tuple(core.compiled_isas()),
        threads=core.max_threads(),
        openmp=own or None,
        warning=_slower(core.has_openmp(), own, core.openmp_runtime_of(TORCH_LIBRARY)),
    )


def _slower(has_openmp: bool, own: str, torchs: str) -> str | None:
    """Say what costs speed, never correctness: no threads, or threads beside torch's."""
    if not has_openmp:
        return "compiled without OpenMP: one thread, whatever torch uses"
    if own and torchs and own != torchs:
        return (
            f"two OpenMP runtimes ({own} beside torch's {torchs}): their threads compete for the "
            f"same processors"
        )
    return None
