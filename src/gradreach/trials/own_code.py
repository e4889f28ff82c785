"""What code of our own a result comes from: a version number does not tell two checkouts apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Literal

__all__ = ["code_digest"]

PACKAGE = Path(__file__).resolve().parents[1]
KINDS = {"source": (".py",), "native": (".so", ".pyd", ".dylib")}
# What tells of results and takes no part in them: no process of a trial imports it.
APART = frozenset({"cli", "report"})


@lru_cache(maxsize=8)  # once a process: what has been imported changes no more
def code_digest(kind: Literal["source", "native"] = "source", package: Path = PACKAGE) -> str:
    """Return a hash of the package's own code, read once in a process.

    Files that are edited while a study runs decide nothing until the next one: its trials are
    forks of a process that has imported the package when the study began.

    Args:
        kind: The modules, or the compiled core: built twice from the same source, its bytes may
            differ, so the nodes of a cluster must agree in the first alone.
        package: Its folder.

    Cost:
        Some 20 ms of processor time for the 430 modules of this package.

    Example:
        >>> len(code_digest()), code_digest() == code_digest("native")
        (16, False)
    """
    whole = hashlib.sha256()
    for path in sorted(each for each in package.rglob("*") if each.suffix in KINDS[kind]):
        name = path.relative_to(package)
        if name.parts[0] in APART:
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{name.as_posix()}\0{content}\n".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()[:16]
