"""The edits of the lines that build recurrent layers: what the rewritten call looks like."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradreach.nn import EulerStep
from gradreach.treatments.call_text import CallText, code_of
from gradreach.treatments.edit import Edit
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.layer_call import TORCH_CLASSES, LayerCall
from gradreach.treatments.sites import Site

__all__ = ["layer_edits"]

Rewrite = Callable[[LayerCall], LayerCall | None]
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
    A site that is no call at all gives no edit.

    Args:
        label: Of the treatment, for the wrapped form.
        rewrites: As given to ``on_layer``, in order.
    """
    files: dict[str, _File] = {}
    edits: dict[Edit, None] = {}
    done: set[tuple[object, ...]] = set()
    for site in sites:
        if site.kind != "layer" or site.left or site.what not in _CLASSES:
            continue
        given = _given(site)
        call = given
        for rewrite in rewrites:
            call = rewrite(call) or call
        place = site.outer or site
        if call == given or place.span in done or not place.file:
            continue
        done.add(place.span)
        if place.file not in files:
            files[place.file] = _read(place.file)
        several = len({each.what for each in sites if (each.outer or each).span == place.span}) > 1
        plain = None if site.outer or several else (given, call)
        for edit in _edits_at(files[place.file], place, label, site.what, plain):
            edits[edit] = None
    return list(edits)


def _given(site: Site) -> LayerCall:
    kind, cell = TORCH_CLASSES[_CLASSES[site.what]]
    arguments = {name: value for name, value in site.numbers.items() if name != "class"}
    return LayerCall(kind, cell, arguments)


def _read(file: str) -> _File:
    text = Path(file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    return _File(text, tree, Imports.of(tree))


def _edits_at(
    file: _File, site: Site, label: str, what: str, plain: tuple[LayerCall, LayerCall] | None
) -> list[Edit]:
    found = CallText.find(file.tree, file.text, site)
    if found is None:
        return []
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
        name, needed = file.imports.text_of(wanted, found.file)
        edits += [found.callee(name), *([needed] if needed else [])]
    return edits


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
