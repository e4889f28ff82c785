"""Small records of arrays and numbers, to plain data and back by their own field names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np

from gradreach.records.plain import check_schema, from_plain, to_plain

__all__ = ["ArrayRecord"]


class ArrayRecord:
    """Base of frozen dataclasses whose fields are arrays, numbers, words and tuples of words."""

    __slots__ = ()
    schema_version: ClassVar[int] = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        name = type(self).__name__
        plain: dict[str, Any] = {"record": name, "schema_version": self.schema_version}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = to_plain(value)
            plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, cls.__name__, cls.schema_version)
        values: dict[str, Any] = {}
        for field in fields(cls):  # type: ignore[arg-type]
            value = plain[field.name]
            if isinstance(value, Mapping):
                value = from_plain(value)
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)
