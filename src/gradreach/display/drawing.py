"""The figure that plots return: matplotlib's own, shown by a notebook without pyplot.

The only file that imports matplotlib at its top; `figure.py` imports it where it draws.
"""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

__all__ = ["Drawing"]

SCREEN_DPI = 144  # a column of 3.5 inches is 504 pixels wide in a notebook


class Drawing(Figure):
    r"""A `matplotlib.figure.Figure` that knows how a notebook may show it.

    matplotlib registers its figures with a notebook when `pyplot` is imported. Plots do not
    import it, as that chooses a backend for the whole process, so the figure brings its own
    picture. Where pyplot is there, its way of showing figures goes first.

    Example:
        >>> Drawing(figsize=(1, 1))._repr_png_()[:4]
        b'\x89PNG'
    """

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=SCREEN_DPI)
        return buffer.getvalue()
