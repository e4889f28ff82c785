"""A curve in a few lines of text, eight dots a character."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["braille_curve"]

# Bits of the dots of a braille character, by row and column.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
EMPTY = 0x2800
GAP = "·"  # a column in which something is not finite


def braille_curve(
    values: NDArray[np.float64], *, width: int = 60, height: int = 4, log: bool = True
) -> list[str]:
    r"""Draw a curve as lines of braille characters, the top one first.

    Of a long curve each column of dots shows the largest of its values. On a logarithmic
    scale zeros sit on the lower edge. Where a value is not finite, the lowest line has a
    ``·``.

    Args:
        values: The curve, not negative where ``log``.
        width: Characters a line at most. height: Lines.
        log: Draw logarithms instead of the values.

    Raises:
        ValueError: ``width`` or ``height`` is below 1.

    Example:
        >>> print("\n".join(braille_curve(0.5 ** np.arange(16.0), width=8, height=2)))
        ⠉⠒⠤⣀
        ⠀⠀⠀⠀⠉⠒⠤⣀
    """
    if min(width, height) < 1:
        raise ValueError(
            f"braille_curve(): arguments 'width' and 'height' must be at least 1; got {width} and "
            f"{height}"
        )
    curve = np.asarray(values, dtype=np.float64).ravel()
    columns = min(2 * width, len(curve))
    parts = np.array_split(curve, columns) if columns else []
    finite = np.array([np.isfinite(part).all() for part in parts], dtype=bool)
    tops = np.array([part.max() for part in parts], dtype=np.float64)
    sizes = _logs(tops) if log else tops
    usable = finite & np.isfinite(sizes)
    low, high = (sizes[usable].min(), sizes[usable].max()) if usable.any() else (0.0, 0.0)
    rows = 4 * height
    cells = np.zeros((height, -(-columns // 2)), dtype=np.int64)
    for at in range(columns):
        if finite[at]:
            share = 0.0 if high == low else (sizes[at] - low) / (high - low)
            place = rows - 1 if not usable[at] else round((1 - share) * (rows - 1))
            cells[place // 4, at // 2] |= DOTS[place % 4][at % 2]
    lines = ["".join(chr(EMPTY + int(cell)) for cell in line) for line in cells]
    for at in np.flatnonzero(~finite).tolist():
        lines[-1] = lines[-1][: at // 2] + GAP + lines[-1][at // 2 + 1 :]
    return [line.rstrip(chr(EMPTY)) for line in lines]


def _logs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = np.log10(values)
    return found
