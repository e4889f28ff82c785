"""Lines before the steps of a script's optimizers, or what says the same where no line can."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from gradreach.treatments.call_text import CallText, code_of
from gradreach.treatments.edit import Edit
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.sites import Site
from gradreach.treatments.source_file import NoLineError, SourceFile

__all__ = ["StepLine", "at_constructors", "at_top", "before_steps", "written"]

StepLine = Callable[[str, Imports, str], tuple[str, list[Edit]]]
"""Makes the text of a call from that of the optimizer, the imports and the path of a file."""


def before_steps(label: str, line: StepLine, sites: Sequence[Site]) -> list[Edit]:
    """Have a call made right before each step of each optimizer.

    In order of preference: a line before the step; the optimizers' constructors wrapped; the
    whole script treated from its top.

    Raises:
        NoLineError: No site tells of a file that could be changed.
    """
    updates = list({site.span: site for site in sites if site.kind == "update"}.values())
    return written(
        lambda: _before_each(updates, line) if _one_kind(sites) else [],
        lambda: at_constructors(label, sites),
        lambda: at_top(label, sites),
    )


def written(*ways: Callable[[], list[Edit]]) -> list[Edit]:
    """Return the edits of the first way that can be written.

    Raises:
        NoLineError: None can; what the last one says.
    """
    for way in ways[:-1]:
        try:
            return way()
        except NoLineError:
            continue
    return ways[-1]()


def at_constructors(label: str, sites: Sequence[Site], kind: str = "optimizer") -> list[Edit]:
    """Wrap what builds the optimizers (or layers), so that they come treated.

    Raises:
        NoLineError: One is built where there is no call of the user's to be wrapped.
    """
    edits: dict[Edit, None] = {}
    places = {
        (place := site.outer or site).span: place
        for site in sites
        if site.kind == kind and not site.left
    }
    for site in places.values():
        if not site.file:
            raise NoLineError(f"{site.what} is built where there is no file")
        source = SourceFile.read(site.file)
        found = CallText.find(source.tree, source.text, site)
        if found is None:
            raise NoLineError(f"{site.what} is built by no call at line {site.line}")
        name, needed = Imports.of(source.tree).text_of("gradreach.treatments.treated", site.file)
        wrapping = found.wrapped(f"{name}(", f", {code_of(label)})")
        edits.update(dict.fromkeys([*([needed] if needed else []), *wrapping]))
    if not edits:
        raise NoLineError(f"no {kind} was seen that {label} could be written at")
    return list(edits)


def at_top(label: str, sites: Sequence[Site]) -> list[Edit]:
    """Treat all that the script builds, from where it has imported torch.

    Raises:
        NoLineError: It is no script.
    """
    scripts = {site.file for site in sites if site.kind == "script"}
    scripts |= {site.numbers["script"] for site in sites if site.numbers.get("script")}
    if len(scripts) != 1:
        raise NoLineError(f"there is no script at whose top {label} could be written")
    source = SourceFile.read(scripts.pop())
    name, needed = Imports.of(source.tree).text_of("gradreach.treatments.treat", source.path)
    edit = source.after_imports(f"{name}({code_of(label)})")
    return [*([needed] if needed else []), edit]


def _one_kind(sites: Sequence[Site]) -> bool:
    """Refuse a line that steps an optimizer with and without a scaler.

    Raises:
        NoLineError: There is such a line.
    """
    kinds: dict[tuple[object, ...], bool] = {}
    for site in sites:
        scaled = site.kind == "update" and bool(site.numbers["scaler"])
        if site.kind == "update" and kinds.setdefault(site.span, scaled) != scaled:
            raise NoLineError(f"line {site.line} steps with a scaler and without")
    return True


def _before_each(updates: Sequence[Site], line: StepLine) -> list[Edit]:
    if not updates:
        raise NoLineError("no optimizer step was seen")
    edits = [edit for site in updates for edit in _before(site, line)]
    return list(dict.fromkeys(edits))


def _before(site: Site, line: StepLine) -> list[Edit]:
    """Return the edits at one step.

    Raises:
        NoLineError: The step is a library's, or what it steps is not told by its text.
    """
    if not site.file or site.outer is not None:
        raise NoLineError("the step is made by a library")
    source = SourceFile.read(site.file)
    call = source.call_ending(site.end_line, site.end_column)
    scaled = bool(site.numbers["scaler"])
    optimizer = _optimizer(call, scaled)
    name = source.segment(optimizer)
    text, needed = line(name, Imports.of(source.tree), site.file)
    if not scaled and (call.args or call.keywords):
        return [*needed, *_in_closure(source, call, text)]
    unscale = _unscale(source, call, name) if scaled else []
    return [*needed, *source.before(call, [*unscale, text])]


def _optimizer(call: ast.Call, scaled: bool) -> ast.expr:
    """Return the expression of the optimizer in `optimizer.step()` or `scaler.step(optimizer)`."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "step"):
        raise NoLineError(f"line {call.lineno} is no call of a step")
    if not scaled:
        found = call.func.value
    else:
        named = [each.value for each in call.keywords if each.arg == "optimizer"]
        if not (call.args or named):
            raise NoLineError(f"line {call.lineno} names no optimizer")
        found = call.args[0] if call.args else named[0]
    if not _harmless(found) or (scaled and not _harmless(call.func.value)):
        raise NoLineError(f"what line {call.lineno} steps must not be evaluated twice")
    return found


def _harmless(node: ast.expr) -> bool:
    """Whether an expression may be written twice: names, attributes, plain subscripts."""
    if isinstance(node, ast.Attribute):
        return _harmless(node.value)
    if isinstance(node, ast.Subscript):
        return _harmless(node.value) and _harmless(node.slice)
    return isinstance(node, ast.Name | ast.Constant)


def _unscale(source: SourceFile, call: ast.Call, optimizer: str) -> list[str]:
    """Return the line that takes the scaler's factor out, unless the script has one.

    Raises:
        NoLineError: Some other place unscales; twice is an error.
    """
    assert isinstance(call.func, ast.Attribute)
    function = source.function_of(call)
    calls = [
        node for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr == "unscale_"
    ]  # fmt: skip
    if not calls:
        return [f"{source.segment(call.func.value)}.unscale_({optimizer})"]
    for each in calls:
        parent = source.parent(each)
        theirs = parent.args[0] if isinstance(parent, ast.Call) and parent.args else None
        same = theirs is not None and source.segment(theirs) == optimizer
        if same and source.function_of(each) is function and not _conditional(source, each, call):
            return []
    raise NoLineError("the gradients may be unscaled elsewhere, and must be once only")


def _conditional(source: SourceFile, node: ast.AST, call: ast.Call) -> bool:
    """Whether a node stands in a branch or loop that the call does not stand in."""
    around: set[ast.AST] = set()
    each: ast.AST | None = call
    while each is not None:
        around.add(each)
        each = source.parent(each)
    each = source.parent(node)
    while each is not None and each not in around:
        if isinstance(each, ast.If | ast.For | ast.While | ast.Try | ast.IfExp | ast.Match):
            return True
        each = source.parent(each)
    return False


def _in_closure(source: SourceFile, call: ast.Call, text: str) -> list[Edit]:
    """Have a line run after each call of a step's closure.

    Raises:
        NoLineError: There is no room for the function that does so.
    """
    values = [*call.args, *(each.value for each in call.keywords if each.arg == "closure")]
    statement = source.statement_of(call)
    if len(values) != 1 or len(call.args) + len(call.keywords) != 1:
        raise NoLineError(f"line {call.lineno} passes more than a closure")
    if not (source.alone(call) and source.own_line(statement)):
        raise NoLineError(f"no function can be defined before line {call.lineno}")
    name = source.fresh("treated_closure")
    closure, indent = values[0], source.indent
    lines = [
        f"def {name}(closure={source.segment(closure)}):",
        f"{indent}loss = closure()",
        f"{indent}{text}",
        f"{indent}return loss",
    ]
    return [*source.lines_before(statement, lines), source.replacing(closure, name)]
