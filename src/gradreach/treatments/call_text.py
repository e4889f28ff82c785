"""The text of one call: its callee and its arguments, found for changing them."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradreach.treatments.edit import Edit
from gradreach.treatments.sites import Site

__all__ = ["CallText", "code_of"]

Point = tuple[int, int]  # line from 1, UTF-8 bytes from 0


@dataclass
class CallText:
    """A call expression of a file.

    Attributes:
        node: Its syntax. file: Where it stands.
        spans: Start and end of each argument, in the order of the source.
        last: Where the last thing before the closing bracket ends; comma: whether it is a comma.
    """

    node: ast.Call
    file: str
    spans: list[tuple[Point, Point]]
    last: Point
    comma: bool

    @classmethod
    def find(cls, tree: ast.Module, text: str, site: Site) -> CallText | None:
        """Return the call at a site; ``None`` where another kind of expression stands there."""
        wanted = site.span[1:]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset) == wanted:
                spans, last, comma = _arguments(node, text)
                return cls(node, site.file, spans, last, comma)
        return None

    @property
    def arguments(self) -> list[ast.expr | ast.keyword]:
        """The arguments, in the order of the source."""
        every: list[ast.expr | ast.keyword] = [*self.node.args, *self.node.keywords]
        return sorted(every, key=lambda each: (each.lineno, each.col_offset))

    @property
    def starred(self) -> bool:
        """Whether some arguments are known only when it runs."""
        return any(
            isinstance(each, ast.Starred) or (isinstance(each, ast.keyword) and each.arg is None)
            for each in self.arguments
        )

    def callee(self, text: str) -> Edit:
        """Return the edit that names another callee."""
        func = self.node.func
        return self._edit((func.lineno, func.col_offset), _end(func), text)

    def wrapped(self, opening: str, closing: str) -> list[Edit]:
        """Return the edits that put text around the callee."""
        func = self.node.func
        return [
            Edit.insertion(self.file, func.lineno, func.col_offset, opening),
            Edit.insertion(self.file, *_end(func), closing),
        ]

    def without(self, place: int) -> Edit:
        """Return the edit that takes one argument away."""
        start, end = self.spans[place]
        if place + 1 < len(self.spans):
            return self._edit(start, self.spans[place + 1][0], "")
        before = self.spans[place - 1][1] if place else start
        return self._edit(before, end, "")

    def changed(self, place: int, value: Any) -> Edit:
        """Return the edit that gives one argument another value."""
        each = self.arguments[place]
        name = f"{each.arg}=" if isinstance(each, ast.keyword) else ""
        return self._edit(*self.spans[place], name + code_of(value))

    def added(self, texts: Mapping[str, str]) -> Edit:
        """Return the edit that adds keyword arguments at the end."""
        text = ", ".join(f"{name}={value}" for name, value in texts.items())
        text = f" {text}," if self.comma else f", {text}" if self.spans else text
        return Edit.insertion(self.file, *self.last, text)

    def _edit(self, start: Point, end: Point, text: str) -> Edit:
        return Edit(self.file, *start, *end, text)


def code_of(value: Any) -> str:
    """Return plain data as it is written in code, strings in double quotes.

    Example:
        >>> print(code_of(("identity", 0.99)))
        ("identity", 0.99)
    """
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return f"({', '.join(map(code_of, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(code_of, value))}]"
    return repr(value)


def _end(node: ast.expr) -> Point:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _arguments(node: ast.Call, text: str) -> tuple[list[tuple[Point, Point]], Point, bool]:
    """Split what stands between the brackets of a call at its own commas.

    By tokens: the syntax tree does not know of brackets around an argument.
    """
    lines = text.splitlines(keepends=True)
    func = node.func
    begin, end = _end(func), _end(node)
    depth, spans, comma = 0, [], False
    first: Point | None = None
    last: Point = begin
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _BLANK:
            continue
        start, stop = _bytes(lines, token.start), _bytes(lines, token.end)
        if start < begin or stop > end:
            continue
        closes = token.type == tokenize.OP and token.string in ")]}"
        depth -= closes
        if depth == 0 and closes and stop == end:
            break
        if depth == 1 and token.string == "," and token.type == tokenize.OP:
            spans.append((first or start, last))
            first, comma, last = None, True, stop
            continue
        if depth >= 1:
            first = first or start
            last, comma = stop, False
        elif token.string == "(":
            last = stop
        depth += token.type == tokenize.OP and token.string in "([{"
    if first is not None:
        spans.append((first, last))
    return spans, last, comma


_BLANK = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT,
          tokenize.ENDMARKER)  # fmt: skip


def _bytes(lines: list[str], point: Point) -> Point:
    """Turn tokenize's columns, in characters, into bytes."""
    line, column = point
    if line > len(lines):
        return point
    return line, len(lines[line - 1][:column].encode())
