"""Records as JSON that any reader can parse, with NaN and the infinities kept apart."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["dumps", "loads", "tagged"]

TAG = "$float"  # JSON has no NaN; a bare string "NaN" could be somebody's layer name


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write plain data as strict JSON; non-finite floats become ``{"$float": "NaN"}``.

    Example:
        >>> dumps({"loss": float("nan"), "name": "NaN"})
        '{"loss": {"$float": "NaN"}, "name": "NaN"}'
    """
    plain = tagged(value)
    text = json.dumps(plain, allow_nan=False, ensure_ascii=False, indent=indent)
    if text.isascii() or _is_unicode(text):
        return text
    return json.dumps(plain, allow_nan=False, ensure_ascii=True, indent=indent)


def loads(text: str) -> Any:
    """Undo :func:`dumps`.

    Example:
        >>> loads(dumps([float("-inf"), 1.5]))
        [-inf, 1.5]
    """
    return json.loads(text, object_hook=_untagged)


def tagged(value: Any) -> Any:
    """Return plain data in which every non-finite float is tagged, for any writer of JSON.

    Example:
        >>> tagged((1, float("inf")))
        [1, {'$float': 'Infinity'}]
    """
    if isinstance(value, float) and not math.isfinite(value):
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {TAG: name}
    if isinstance(value, dict):
        return {str(key): tagged(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tagged(item) for item in value]
    return value


def _untagged(found: dict[str, Any]) -> Any:
    return float(found[TAG]) if found.keys() == {TAG} else found


def _is_unicode(text: str) -> bool:
    """Whether it can be written: a file name that is no UTF-8 comes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
