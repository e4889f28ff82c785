"""One change of a source file: what to put in the place of which characters."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Edit", "edited"]


@dataclass(frozen=True, order=True, slots=True)
class Edit:
    """Replaces a span of a file; an empty span is an insertion.

    Attributes:
        file: Path of the file.
        line: First line, from 1.
        column: Where the span begins on it, in UTF-8 bytes from 0, as Python's own ``ast`` counts.
        end_line: Last line.
        end_column: Where the span ends on it, exclusive.
        replacement: The text that takes its place.

    Example:
        >>> print(edited("rnn = nn.RNN(2, 3)", [Edit("a.py", 1, 6, 1, 12, "nn.GRU")]))
        rnn = nn.GRU(2, 3)
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    replacement: str

    @classmethod
    def insertion(cls, file: str, line: int, column: int, text: str) -> Edit:
        """Put text before a character and take nothing away."""
        return cls(file, line, column, line, column, text)


def edited(text: str, edits: list[Edit]) -> str:
    r"""Return a text with its edits made; insertions at one place stand in the order given.

    Raises:
        ValueError: Two edits touch the same characters, or one lies outside the text.

    Example:
        >>> edited("f(1)\n", [Edit.insertion("a.py", 1, 3, ", 2"), Edit("a.py", 1, 0, 1, 1, "g")])
        'g(1, 2)\n'
    """
    data = text.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = sorted(
        ((_place(starts, e.line, e.column), _place(starts, e.end_line, e.end_column), n, e)
         for n, e in enumerate(edits)),
        key=lambda span: span[:3],
    )  # fmt: skip
    parts, done = [], 0
    for start, end, _, edit in spans:
        if start < done or end < start or end > len(data):
            raise ValueError(
                f"edited(): argument 'edits' holds {edit}, which overlaps another edit or lies "
                "outside the text; make the edits of one text only"
            )
        parts += [data[done:start], edit.replacement.encode()]
        done = end
    return b"".join([*parts, data[done:]]).decode()


def _place(starts: list[int], line: int, column: int) -> int:
    if not 1 <= line <= len(starts):
        raise ValueError(f"edited(): there is no line {line}; the text has {len(starts) - 1}")
    return starts[line - 1] + column
