"""The edits of the lines that build recurrent layers: what the rewritten call looks like."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradreach.nn import EulerStep
from gradreach.treatments.call_text import CallText, code_of
from gradreach.treatments.edit import Edit
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.layer_call import TORCH_CLASSES, LayerCall
from gradreach.treatments.lines_before_step import at_top, written
from gradreach.treatments.sites import Site
from gradreach.treatments.source_file import NoLineError, SourceFile

__all__ = ["layer_edits"]

Rewrite = Callable[[LayerCall], LayerCall | None]
_ABOUT = ("class", "script")  # of a site's numbers those that are no arguments
_CLASSES = {f"torch.nn.{kind.__name__}": kind for kind in TORCH_CLASSES}


@dataclass
class _File:
    text: str
    tree: ast.Module
    imports: Imports


def layer_edits(label: str, rewrites: Sequence[Rewrite], sites: Sequence[Site]) -> list[Edit]:
    """Return the edits that make the layers at these sites what the rewrites make of them.

    Where the file alone decides which class is built with which arguments, the call itself is
    changed. Everywhere else (a class out of a dictionary, ``**kwargs``, a function or a library
    that builds the layer) the callee is wrapped in :func:`.treated`, which is always right.
    A layer that is built where no call of the user's stands (while a library is imported, say) is
    treated from the script's top.

    Args:
        label: Of the treatment, for the wrapped form.
        rewrites: As given to ``on_layer``, in order.

    Raises:
        NoLineError: There is no script either.
    """
    layers = [each for each in sites if each.kind == "layer" and not each.left]
    return written(lambda: _at_constructors(label, rewrites, layers), lambda: at_top(label, sites))


def _at_constructors(label: str, rewrites: Sequence[Rewrite], layers: Sequence[Site]) -> list[Edit]:
    """Return the edits where each layer is built.

    Raises:
        NoLineError: One is built where there is no call of the user's own.
    """
    files: dict[str, _File] = {}
    edits: dict[Edit, None] = {}
    classes: dict[tuple[object, ...], set[str]] = {}
    for site in layers:
        classes.setdefault((site.outer or site).span, set()).add(site.what)
    for site in layers:
        given = call = _given(site)
        for rewrite in rewrites:
            call = rewrite(call) or call
        place = site.outer or site
        if call == given or place.span not in classes:
            continue
        several = len(classes.pop(place.span)) > 1
        if not place.file:
            raise NoLineError(f"{site.what} is built by no file's code")
        if place.file not in files:
            files[place.file] = _read(place.file)
        plain = None if site.outer or several else (given, call)
        for edit in _edits_at(files[place.file], place, label, site.what, plain):
            edits[edit] = None
    return list(edits)


def _given(site: Site) -> LayerCall:
    kind, cell = TORCH_CLASSES[_CLASSES[site.what]]
    arguments = {name: value for name, value in site.numbers.items() if name not in _ABOUT}
    return LayerCall(kind, cell, arguments)


def _read(file: str) -> _File:
    source = SourceFile.read(file)
    return _File(source.text, source.tree, Imports.of(source.tree))


def _edits_at(
    file: _File, site: Site, label: str, what: str, plain: tuple[LayerCall, LayerCall] | None
) -> list[Edit]:
    found = CallText.find(file.tree, file.text, site)
    if found is None:
        raise NoLineError(f"{what} is built by no call at line {site.line} of {site.file!r}")
    if plain is not None and file.imports.meaning(found.node.func) == what:
        direct = _direct(file, found, *plain)
        if direct is not None:
            return direct
    name, needed = file.imports.text_of("gradreach.treatments.treated", site.file)
    wrapped = found.wrapped(f"{name}(", f", {code_of(label)})")
    return [*([needed] if needed else []), *wrapped]


def _direct(file: _File, found: CallText, given: LayerCall, call: LayerCall) -> list[Edit] | None:
    """Return the edits of the call itself; ``None`` where its text does not tell enough."""
    changed = {
        name: value for name, value in call.arguments.items()
        if name not in given.arguments or given.arguments[name] != value
    }  # fmt: skip
    removed = given.arguments.keys() - call.arguments.keys()
    if found.starred and (changed or call.kind != given.kind):
        return None
    places = _places(found, given)
    if len(found.node.args) > 8 or not (removed | given.arguments.keys() & changed) <= set(places):
        return None
    edits = [found.without(places[name]) for name in removed]
    edits += [found.changed(places[n], v) for n, v in changed.items() if n in given.arguments]
    fresh = {n: v for n, v in changed.items() if n not in given.arguments} | dict(call.added)
    texts = {}
    for name, value in fresh.items():
        texts[name] = code_of(value)
        if isinstance(value, EulerStep):
            owner, needed = file.imports.text_of("gradreach.nn.EulerStep", found.file)
            texts[name] = owner + texts[name].removeprefix("EulerStep")
            edits += [needed] if needed else []
    if texts:
        edits.append(found.added(texts))
    package = "torch" if call.target.__module__.startswith("torch.") else "gradreach"
    before = "torch.nn." + given.name
    wanted = f"{package}.nn.{call.target.__name__}"
    if wanted != before:
        name, needed = _written_as(file, found, wanted)
        edits += [found.callee(name), *([needed] if needed else [])]
    return edits


def _written_as(file: _File, found: CallText, wanted: str) -> tuple[str, Edit | None]:
    """Return how to write the class here: as a neighbour of the one that stands there."""
    func = found.node.func
    owner, _, last = wanted.rpartition(".")
    if isinstance(func, ast.Attribute) and file.imports.meaning(func.value) == owner:
        return f"{ast.unparse(func.value)}.{last}", None
    return file.imports.text_of(wanted, found.file)


def _places(found: CallText, given: LayerCall) -> dict[str, int]:
    """Return which argument of the text gives which of torch's; names that are certain only."""
    places = {}
    for place, each in enumerate(found.arguments):
        if isinstance(each, ast.keyword):
            if each.arg is not None:
                places[each.arg] = place
        elif place < len(given.positions):
            if isinstance(each, ast.Starred):
                break
            places[given.positions[place]] = place
    return places
