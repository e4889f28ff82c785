"""What the treatments of layers come to, as lines of code for a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gradreach.nn import EulerStep
from gradreach.treatments.call_text import code_of
from gradreach.treatments.layer_call import TORCH_CLASSES, LayerCall

__all__ = ["layer_words"]

Rewrite = Callable[[LayerCall], LayerCall | None]


def layer_words(rewrites: Sequence[Rewrite]) -> str:
    """Say what to write for each class of torch's that the rewrites change.

    Example:
        >>> layer_words([lambda call: call.becoming("gru") if call.kind == "rnn" else None])
        'Write nn.GRU(…) for nn.RNN(…), without `nonlinearity`.'
    """
    layers = list(_written(rewrites, cell=False)) or list(_written(rewrites, cell=True))
    calls = [call for call, _ in layers]
    if not calls:
        return ""
    ends = []
    if any("nonlinearity" not in call.arguments and old == "rnn" for call, old in layers):
        without = any(call.kind != "rnn" for call, old in layers if old == "rnn")
        ends += [", without `nonlinearity`"] if without else []
    if any(_owner(call) == "gr.nn" for call in calls):
        ends.append(", with `import gradreach as gr`")
    lines = [f"{_text(call)} for nn.{old.upper()}(…)" for call, old in layers]
    return f"Write {'; '.join(lines)}{''.join(ends)}."


def _written(rewrites: Sequence[Rewrite], *, cell: bool) -> Iterator[tuple[LayerCall, str]]:
    for kind, its in TORCH_CLASSES.values():
        given = call = LayerCall(kind, its, {})
        for rewrite in rewrites:
            call = rewrite(call) or call
        if its == cell and call != given:
            yield call, kind


def _owner(call: LayerCall) -> str:
    return "gr.nn" if call.target.__module__.startswith("gradreach.") else "nn"


def _text(call: LayerCall) -> str:
    given = {**call.arguments, **call.added}
    parts = ["…"]
    for name, value in given.items():
        owner = "gr.nn." if isinstance(value, EulerStep) else ""
        parts.append(f"{name}={owner}{code_of(value)}")
    return f"{_owner(call)}.{call.target.__name__}({', '.join(parts)})"
