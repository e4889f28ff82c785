"""Text from elsewhere made visible: nothing in it may steer the terminal or the page around it."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["visible", "visible_deep"]

# What is not seen but obeyed: control characters (tab and line end are harmless), lone halves of
# surrogate pairs, which cannot be written as UTF-8, marks that turn the direction of all text
# behind them, joiners of width zero, and characters that are none.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return the text with every character that would be obeyed written as its number.

    A layer may be called anything; a page and a terminal show this instead.

    Example:
        >>> print(visible("rnn\u202ecod.exe"), visible("\x1b[2J"), visible("‖∂L/∂h‖"))
        rnn⟨U+202E⟩cod.exe ⟨U+001B⟩[2J ‖∂L/∂h‖
    """
    return OBEYED.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def visible_deep(plain: Any) -> Any:
    r"""Return plain data with every text in it, keys too, made :func:`visible`.

    Example:
        >>> visible_deep({"a\x00": ["\x07", 1.5]})
        {'a⟨U+0000⟩': ['⟨U+0007⟩', 1.5]}
    """
    if isinstance(plain, str):
        return visible(plain)
    if isinstance(plain, dict):
        return {visible(str(key)): visible_deep(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [visible_deep(value) for value in plain]
    return plain
