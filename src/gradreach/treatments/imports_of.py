"""What the names of a source file stand for, where its imports alone decide that."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from gradreach.treatments.edit import Edit

__all__ = ["Imports"]


@dataclass
class Imports:
    r"""Names that a file binds by imports and by nothing else.

    Example:
        >>> known = Imports.of(ast.parse("import torch.nn as nn\nfrom torch.nn import RNN as R"))
        >>> known.meaning(ast.parse("nn.GRU").body[0].value)
        'torch.nn.GRU'
        >>> known.meaning(ast.parse("R").body[0].value)
        'torch.nn.RNN'
    """

    names: dict[str, str] = field(default_factory=dict)
    everywhere: set[str] = field(default_factory=set)  # bound at the top level, early enough
    used: set[str] = field(default_factory=set)
    first_line: int = 1

    @classmethod
    def of(cls, tree: ast.Module) -> Imports:
        """Read a file."""
        names: dict[str, str] = {}
        rebound: set[str] = set()
        for node in ast.walk(tree):
            for name, meaning in _bound(node):
                if names.setdefault(name, meaning) != meaning:
                    rebound.add(name)
            rebound |= _rebound(node)
        used = names.keys() | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        kept = {name: meaning for name, meaning in names.items() if name not in rebound}
        everywhere = {name for node in tree.body for name, _ in _bound(node)}
        return cls(kept, everywhere, used | rebound, _first_line(tree))

    def meaning(self, node: ast.expr) -> str | None:
        """Return the dotted name an expression stands for; ``None`` where that is not certain."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.meaning(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return None

    def text_of(self, dotted: str, file: str) -> tuple[str, Edit | None]:
        """Return how to write a dotted name in this file, and the import it needs, if one."""
        owner, _, last = dotted.rpartition(".")
        while owner:
            for name, meaning in self.names.items():
                if meaning == owner and name in self.everywhere:
                    return f"{name}.{last}", None
            owner, _, part = owner.rpartition(".")
            last = f"{part}.{last}"
        package, _, rest = dotted.partition(".")
        short = {"gradreach": "gr"}.get(package, package)
        name = package if short in self.used else short
        line = f"import {package}\n" if name == package else f"import {package} as {name}\n"
        return f"{name}.{rest}", Edit.insertion(file, self.first_line, 0, line)


def _bound(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.Import):
        return [
            (each.asname, each.name) if each.asname else (each.name.partition(".")[0],) * 2
            for each in node.names
        ]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [(each.asname or each.name, f"{node.module}.{each.name}") for each in node.names]
    return []


def _rebound(node: ast.AST) -> set[str]:
    """Return the names that a node binds other than by an absolute import."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store | ast.Del) else set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.arg):
        return {node.arg}
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return {node.name} if node.name else set()
    if isinstance(node, ast.ImportFrom) and (node.level or not node.module):
        return {each.asname or each.name for each in node.names}
    return set()


def _first_line(tree: ast.Module) -> int:
    """Return the line before which an import may be put: after docstring and ``__future__``."""
    for node in tree.body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not text and not future:
            decorators = getattr(node, "decorator_list", [])
            return int(min([node.lineno, *(each.lineno for each in decorators)]))
    return 1
