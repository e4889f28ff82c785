"""Arrays as plain data and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.errors import GradreachError

__all__ = ["Array", "SchemaError", "check_schema", "from_plain", "to_plain"]

Array = NDArray[np.float64]


class SchemaError(GradreachError, ValueError):
    """A record was written by a version of gradreach that this one cannot read."""


def to_plain(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as ``{"dtype", "shape", "values"}``; NaN and infinities stay floats.

    Example:
        >>> to_plain(np.array([1.0, 2.0]))
        {'dtype': 'float64', 'shape': [2], 'values': [1.0, 2.0]}
    """
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "values": array.ravel().tolist(),
    }


def from_plain(plain: Mapping[str, Any]) -> NDArray[Any]:
    """Undo :func:`to_plain`.

    Example:
        >>> from_plain(to_plain(np.eye(2)))
        array([[1., 0.],
               [0., 1.]])
    """
    dtype = str(plain["dtype"])
    if dtype not in ("float32", "float64", "int64", "bool"):
        raise SchemaError(f"a record holds float32, float64, int64 or bool arrays; got {dtype!r}")
    return np.array(plain["values"], dtype=dtype).reshape(plain["shape"])


def check_schema(plain: Mapping[str, Any], record: str, version: int) -> None:
    """Refuse data that is not of this record, or of a newer schema.

    Raises:
        SchemaError: With what was found and what can be read.
    """
    if plain.get("record") != record:
        raise SchemaError(
            f"{record}.from_dict(): expected a {record!r} record; got {plain.get('record')!r}"
        )
    found = plain.get("schema_version")
    if found != version:
        raise SchemaError(
            f"{record}.from_dict(): schema version {found!r} is not readable; this gradreach "
            f"reads {version}: use the version of gradreach that wrote it, or a newer one"
        )
