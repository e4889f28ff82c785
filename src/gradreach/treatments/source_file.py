"""A Python file of the user's, as treatments write into it: positions, indentation, encoding."""

from __future__ import annotations

import ast
import io
import tokenize
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gradreach.errors import GradreachError
from gradreach.treatments.edit import Edit

__all__ = ["NoLineError", "SourceFile"]

SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)


class NoLineError(GradreachError):
    """A change cannot be written at a place of the script: there is no such line, or no name."""


@dataclass(frozen=True)
class SourceFile:
    r"""A file's text with its tree.

    Args:
        path: As Python was given it. text: decoded, its line ends as they are, without a mark
            of byte order.
        encoding: The file's own. bom: Whether it begins with that mark.

    Example:
        >>> source = SourceFile("a.py", "for _ in x: opt.step()\n")
        >>> call = source.call_ending(1, 22)
        >>> edits = source.before(call, ["clip(opt)"])
        >>> from gradreach.treatments.edit import edited
        >>> edited(source.text, edits)
        'for _ in x: clip(opt); opt.step()\n'
    """

    path: str
    text: str
    encoding: str = "utf-8"
    bom: bool = False
    _cache: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, path: str) -> SourceFile:
        """Read a file as Python would.

        Raises:
            NoLineError: There is no such file, or it is no Python.
        """
        try:
            data = Path(path).read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            bom = data.startswith(BOM_UTF8)
            encoding = "utf-8" if bom else encoding
            text = data.removeprefix(BOM_UTF8).decode(encoding)
            found = cls(path, text, encoding, bom)
            _ = found.tree
        except (OSError, SyntaxError, ValueError, LookupError) as error:
            raise NoLineError(f"{path!r} cannot be read as Python ({error})") from error
        return found

    def encoded(self, text: str) -> bytes:
        """Return a text as this file would hold it.

        Raises:
            NoLineError: The file's encoding has no such character.
        """
        try:
            return (BOM_UTF8 if self.bom else b"") + text.encode(self.encoding)
        except UnicodeEncodeError as error:
            raise NoLineError(f"{self.path!r} cannot hold the change ({error})") from error

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def newline(self) -> str:
        """The line end that most lines have."""
        crlf = self.text.count("\r\n")
        return "\r\n" if crlf * 2 > self.text.count("\n") else "\n"

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that occurs."""
        found = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        found |= {node.arg for node in ast.walk(self.tree) if isinstance(node, ast.arg)}
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return frozenset(
            found | {node.name for node in ast.walk(self.tree) if isinstance(node, kinds)}
        )

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {
            child: parent
            for parent in ast.walk(self.tree)
            for child in ast.iter_child_nodes(parent)
        }

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.text.encode().splitlines(keepends=True)

    # ---- what stands where

    def call_ending(self, line: int, column: int) -> ast.Call:
        """Return the call whose closing parenthesis is there: no two calls share it.

        Where a call begins is told differently by Python's versions when it spans lines.

        Raises:
            NoLineError: There is none; the file has been changed since it ran.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and (node.end_lineno, node.end_col_offset) == (
                line, column,
            ):  # fmt: skip
                return node
        raise NoLineError(f"there is no call that ends at line {line} of {self.path!r}")

    def segment(self, node: ast.expr) -> str:
        """Return the text of an expression, on one line."""
        text = ast.get_source_segment(self.text, node)
        return ast.unparse(node) if text is None or "\n" in text else text

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return what a node stands in."""
        return self._parents.get(node)

    def function_of(self, node: ast.AST) -> ast.AST:
        """Return the function, lambda or module that a node stands in."""
        inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        each = self._parents.get(node)
        while each is not None and not isinstance(each, inner):
            each = self._parents.get(each)
        return each or self.tree

    def statement_of(self, node: ast.AST) -> ast.stmt:
        """Return the innermost statement around a node."""
        each = node
        while not isinstance(each, ast.stmt):
            each = self._parents[each]
        return each

    def alone(self, call: ast.Call) -> bool:
        """Whether a call is a statement's whole value: `f()`, `x = f()`, `return f()`."""
        statement = self.statement_of(call)
        return isinstance(statement, SIMPLE) and statement.value is call

    def own_line(self, statement: ast.stmt) -> bool:
        """Whether nothing but indentation stands before a statement on its line."""
        return not self._lines[statement.lineno - 1][: statement.col_offset].strip()

    # ---- changes

    def before(self, call: ast.Call, expressions: list[str]) -> list[Edit]:
        """Evaluate some expressions right before a call, wherever it stands."""
        statement = self.statement_of(call)
        if self.alone(call) and self.own_line(statement):
            return self.lines_before(statement, expressions)
        if self.alone(call):
            text = "".join(f"{each}; " for each in expressions)
            return [self._at(statement, text)]
        return self.around(call, "".join(["(", *(f"{each}, " for each in expressions)]), ")[-1]")

    def lines_before(self, statement: ast.stmt, lines: list[str]) -> list[Edit]:
        """Put whole lines before a statement that begins its line, indented as it is."""
        indent = self._lines[statement.lineno - 1][: statement.col_offset].decode()
        text = f"{self.newline}{indent}".join(lines)
        return [self._at(statement, f"{text}{self.newline}{indent}")]

    def lines_after(self, statement: ast.stmt, lines: list[str]) -> list[Edit]:
        """Put whole lines after a statement, indented as it is.

        Raises:
            NoLineError: Another statement shares its line.
        """
        number = statement.end_lineno or statement.lineno
        line = self._lines[number - 1]
        rest = line[statement.end_col_offset :].strip()
        if not self.own_line(statement) or (rest and not rest.startswith(b"#")):
            raise NoLineError(f"line {number} of {self.path!r} holds more than one statement")
        indent = self._lines[statement.lineno - 1][: statement.col_offset].decode()
        text = "".join(f"{self.newline}{indent}{each}" for each in lines)
        return [Edit.insertion(self.path, number, len(line.rstrip(b"\r\n")), text)]

    def around(self, node: ast.expr, opening: str, closing: str) -> list[Edit]:
        """Put text before and after an expression."""
        end = (node.end_lineno or 0, node.end_col_offset or 0)
        return [self._at(node, opening), Edit.insertion(self.path, *end, closing)]

    def replacing(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """Put a text in the place of a node."""
        return Edit(
            self.path, node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0,
            text,
        )  # fmt: skip

    def removing(self, statement: ast.stmt) -> Edit:
        """Take a statement away: its whole line, where nothing else stands there or needs it."""
        block = self._block_of(statement)
        rest = self._lines[(statement.end_lineno or 1) - 1][statement.end_col_offset :]
        if len(block) > 1 and self.own_line(statement) and not rest.strip():
            return Edit(self.path, statement.lineno, 0, (statement.end_lineno or 1) + 1, 0, "")
        return self.replacing(statement, "pass")

    def _block_of(self, statement: ast.stmt) -> list[ast.stmt]:
        parent = self._parents[statement]
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and statement in block:
                return block
        return [statement]

    def after_imports(self, line: str) -> Edit:
        """Put a line after the first import of torch at the file's top level, or first of all.

        What a script sets up for torch (its threads, say) stands before that import.
        """
        for each in self.tree.body:
            if _imports_torch(each) and self.own_line(each):
                end = (each.end_lineno or 0, each.end_col_offset or 0)
                alone = not self._lines[end[0] - 1][end[1] :].strip()
                return Edit.insertion(self.path, *end, f"{self.newline if alone else '; '}{line}")
        body = self.tree.body
        past = len(_leading(body))
        if past == len(body) or not self.own_line(body[past]):
            raise NoLineError(f"there is no line at the top of {self.path!r}")
        decorated = getattr(body[past], "decorator_list", None)
        first = decorated[0].lineno if decorated else body[past].lineno
        return Edit.insertion(self.path, first, 0, line + self.newline)

    @cached_property
    def indent(self) -> str:
        """One level of indentation, as the file has it."""
        for each in ast.walk(self.tree):
            if isinstance(each, ast.FunctionDef | ast.For | ast.If | ast.With | ast.ClassDef):
                inner, outer = each.body[0], each.col_offset
                line = self._lines[inner.lineno - 1][: inner.col_offset]
                if self.own_line(inner) and inner.lineno > each.lineno:
                    return line[outer:].decode()
        return "    "

    def fresh(self, name: str) -> str:
        """Return a name that the file does not have."""
        return next(each for n in range(1000) if (each := f"{name}{n or ''}") not in self.names)

    def _at(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        return Edit.insertion(self.path, node.lineno, node.col_offset, text)


def _leading(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return what must stay first: the docstring and imports from `__future__`."""
    found = []
    for place, each in enumerate(body):
        docstring = (
            place == 0
            and isinstance(each, ast.Expr)
            and isinstance(each.value, ast.Constant)
            and isinstance(each.value.value, str)
        )
        future = isinstance(each, ast.ImportFrom) and each.module == "__future__"
        if not (docstring or future):
            break
        found.append(each)
    return found


def _imports_torch(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        names = [statement.module or ""]
    else:
        return False
    return any(name.partition(".")[0] == "torch" for name in names)
