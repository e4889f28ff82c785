"""Takes the script's own clipping out, so that a treatment's is the only one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from gradreach.treatments.attributes import Attributes
from gradreach.treatments.call_text import CallText
from gradreach.treatments.edit import Edit
from gradreach.treatments.sites import PASSED_OVER, Site, caller, site_at
from gradreach.treatments.source_file import NoLineError, SourceFile

__all__ = ["ClipCallsPatch", "without_own_clipping"]

MODULE: Any = sys.modules["torch.nn.utils.clip_grad"]
SCALES = "_clip_grads_with_norm_"  # called by clip_grad_norm_ with the norm that it has found
GROUPS = "_group_tensors_by_device_and_dtype"  # called by clip_grad_value_ with the gradients
VALUE = "clip_grad_value_"


class ClipCallsPatch:
    """Sees the calls of torch's clipping functions while started; where it blocks, none clips.

    Their helpers are replaced, as ``from torch.nn.utils import clip_grad_norm_`` keeps the
    function itself. Calls of ours, from within an optimizer's step, clip.

    Args:
        note: Called with the site of each call.

    Attributes:
        blocks: Whether the script's calls measure only.
    """

    def __init__(self, note: Callable[[Site], None]) -> None:
        self.note, self.blocks = note, False
        self._running = False  # a wrapper that somebody has wrapped in turn stays, and passes on
        self._attributes = Attributes()

    def start(self) -> None:
        """Put the helpers in place."""
        self._running = True
        self._attributes.put(MODULE, SCALES, self._scales(getattr(MODULE, SCALES)))
        self._attributes.put(MODULE, GROUPS, self._groups(getattr(MODULE, GROUPS)))

    def stop(self) -> None:
        """Put torch's back."""
        self._running = False
        self._attributes.restore()

    def _scales(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def clip(*args: Any, **options: Any) -> Any:
            return None if self._blocked() else own(*args, **options)

        return clip

    def _groups(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def group(*args: Any, **options: Any) -> Any:
            if sys._getframe(1).f_code.co_name == VALUE and self._blocked():
                return {}
            return own(*args, **options)

        return group

    def _blocked(self) -> bool:
        """Whether it is the script that calls, not a treatment, and is not to clip; note where."""
        if not self._running:
            return False
        frame = sys._getframe(2)
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            package = name.partition(".")[0]
            watching = name.startswith("gradreach.monitor.")  # it stands between, in a trial
            if package == "gradreach" and not watching:
                return False
            if package not in PASSED_OVER:
                break
            if frame.f_back is None:
                return False
            frame = frame.f_back
        self.note(site_at(caller(), "clip", "torch.nn.utils.clip_grad"))
        return self.blocks


def without_own_clipping(sites: Sequence[Site]) -> list[Edit]:
    """Return the edits that take the script's own clip calls out.

    A line of its own becomes ``pass`` or goes; a call whose value is used keeps measuring, with
    an infinite threshold.

    Raises:
        NoLineError: A library clips.
    """
    edits: dict[Edit, None] = {}
    for site in {each.span: each for each in sites if each.kind == "clip"}.values():
        if not site.file or site.outer is not None:
            raise NoLineError("a library clips the gradient by itself")
        source = SourceFile.read(site.file)
        call = source.call_ending(site.end_line, site.end_column)
        statement = source.statement_of(call)
        if isinstance(statement, ast.Expr) and statement.value is call:
            edits[source.removing(statement)] = None
        else:
            edits[_unbounded(source, call, site)] = None
    return list(edits)


def _unbounded(source: SourceFile, call: ast.Call, site: Site) -> Edit:
    """Return the edit that gives a call an infinite threshold."""
    found = CallText.find(source.tree, source.text, site)
    named = [each.value for each in call.keywords if each.arg in ("max_norm", "clip_value")]
    if found is None or any(isinstance(each, ast.Starred) for each in call.args):
        raise NoLineError(f"the clipping of line {call.lineno} has no threshold of its own")
    if named:
        return source.replacing(named[0], 'float("inf")')
    if len(call.args) < 2:
        raise NoLineError(f"the clipping of line {call.lineno} has no threshold of its own")
    return source.replacing(call.args[1], 'float("inf")')
