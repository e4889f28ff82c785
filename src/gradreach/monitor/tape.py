"""Records what a forward pass computes, so that it can be run again with other weights."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

from gradreach.kernels import native
from gradreach.monitor.ambient import Ambient, autocast_devices, random_streams
from gradreach.monitor.guard import Guard
from gradreach.monitor.names import transformed
from gradreach.monitor.tape_values import NotReplayableError, Ref, TapeValues, mapped, tensors_in

__all__ = ["Tape", "TapeCall", "compiled", "modes"]

MOST_CALLS = 20_000
MOST_BYTES = 256 * 2**20

# What returns a tensor of which a call made again would know nothing: the result counts as given.
GIVEN = {"tensor", "as_tensor", "asarray", "from_numpy", "frombuffer", "__deepcopy__",
         "__reduce_ex__"}  # fmt: skip
GIVEN_PROPERTIES = {"grad", "_grad", "_base"}
# What Python learns from tensors, and may branch on. Not floats: those are mostly logged; where
# one goes into the loss, the slope of what is run again is another than the gradient's.
READS = {"__bool__", "__int__", "__index__", "item", "tolist", "equal", "allclose", "is_nonzero"}
NORMS = {"batch_norm", "instance_norm"}  # their running statistics are written into
RENORMS = {"embedding", "embedding_bag"}  # with max_norm, the weight

IN_PLACE = {"__setitem__"} | {
    f"__i{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
                 "xor", "lshift", "rshift")
}  # fmt: skip
MAY_WRITE = IN_PLACE | NORMS | RENORMS  # beside names that end in one underscore
# What asks for no values: a quarter of a loop's calls are recorded, all others are these.
PASSIVE = {"dim", "size", "stride", "numel", "nelement", "data_ptr", "storage_offset", "__len__",
           "is_contiguous", "element_size", "is_floating_point", "is_complex", "get_device",
           "_set_grad_enabled", "__hash__", "__repr__", "untyped_storage"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TapeCall:
    """One call of a function of torch.

    Args:
        results: What stands for the tensors it returned, in order.
        read: What it told Python, where that is a whole number, a truth, or a list of such.
    """

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    ambient: Ambient
    results: tuple[Ref, ...]
    read: Any = None


class Tape(TorchFunctionMode):
    """Sees the calls that the user's Python makes of torch, from :meth:`begin` to :meth:`end`.

    A call is recorded at the level it was made: ``torch.lstm`` is one. Not seen is what is
    computed elsewhere: in C++ extensions, scripted or compiled code. Custom autograd functions
    are seen by the calls of torch in their forward. Whoever uses a tape compares a run of it
    with the original before relying on it.

    Args:
        guard: Runs what is ours.

    Attributes:
        reason: Why the pass cannot be run again; empty as long as it can.
        calls: What was recorded. values: the tensors in it.
        streams: States of the random streams at its start.
        roots: What stands for the values that backward was called on. loss: their sum.

    Cost:
        A loop over small cells (B = 8, H = 32) takes about twice as long while it is recorded, a
        layer that is one call no longer than before. References to the tensors that the pass was
        given; those that it writes into are copied.

    Example:
        >>> weight = torch.tensor([2.0], requires_grad=True)
        >>> tape = Tape(Guard(on_fault=lambda: None))
        >>> tape.begin()
        >>> loss = (3 * weight).square().sum()
        >>> tape.end([loss])
        >>> tape.reason, [call.function.__name__ for call in tape.calls], tape.loss
        ('', ['mul', 'square', 'sum'], tensor(36.))
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard
        self.reason = ""
        self.calls: list[TapeCall] = []
        self.values = TapeValues()
        self.devices = autocast_devices()
        self.streams: list[Tensor] = []
        self.roots: tuple[Ref, ...] = ()
        self.loss: Tensor | None = None
        self.recording = False
        self._thread = 0
        self._within = False  # a call of our own core, which is recorded as one
        self._core = native.run
        self._ours: Callable[..., Any] | None = None

    def begin(self) -> None:
        """Start to record."""
        reason = _why_not()
        if reason:
            return self.decline(reason)
        self.streams = random_streams()
        self._thread = threading.get_ident()
        self._ours = native.run = self._run_core
        self.recording = True
        _push_mode(self)  # type: ignore[no-untyped-call]
        return None

    def end(self, roots: Sequence[Tensor]) -> None:
        """Stop, at the values that backward is about to be called on."""
        recording = self.recording
        self.stop()
        if recording and not self.reason:
            self.attempt(self._close, roots)

    def stop(self) -> None:
        """Stop, and leave torch as it was."""
        self.recording = False
        if native.run is self._ours:
            native.run = self._core
        self._ours = None
        _take_off(self)

    def decline(self, reason: str) -> None:
        """Give up, with the first reason there was; nothing is kept."""
        self.reason = self.reason or reason
        self.recording = False
        self.calls, self.values, self.streams, self.loss = [], TapeValues(), [], None

    def _close(self, roots: Sequence[Tensor]) -> None:
        known = [self.values.find(root) for root in roots]
        self.roots = tuple(each for each in known if each is not None and each.kind == "slot")
        if len(self.roots) < len(known) or not known:
            raise NotReplayableError("the loss was not computed in the recorded pass")
        if any(root.numel() != 1 for root in roots):
            raise NotReplayableError("backward was not called on single numbers")
        if any(constant.changed for constant in self.values.constants):
            raise NotReplayableError("the pass changed a tensor unseen")
        self.loss = sum((root.detach().clone().reshape(()) for root in roots[1:]),
                        roots[0].detach().clone().reshape(()))  # fmt: skip

    # ---- while recording

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Make the call, and note it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if not self.recording or self._within or name in PASSIVE:
            return func(*args, **kwargs)
        written: list[Tensor] = []
        into = "out" in kwargs or "inplace" in kwargs
        if into or name[-1:] == "_" or name in MAY_WRITE or hasattr(func, "_schema"):
            self.guard(self.attempt, self._keep, func, args, kwargs, written)
        result = func(*args, **kwargs)
        if name != "__get__" or isinstance(result, Tensor):
            self.guard(self.attempt, self._note, func, args, kwargs, result, bool(written))
        return result

    def _run_core(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the native core: it computes where no mode sees it."""
        if not self.recording or self._within or threading.get_ident() != self._thread:
            return self._core(*args, **kwargs)
        self._within = True
        try:
            result = self._core(*args, **kwargs)
        finally:
            self._within = False
        self.guard(self.attempt, self._note, self._core, args, kwargs, result, False)
        return result

    def attempt(self, work: Callable[..., None], *args: Any) -> None:
        """Do some work; what it cannot do ends this record, not the whole watch."""
        if self.reason:
            return
        try:
            work(*args)
        except NotReplayableError as error:
            self.decline(str(error))
        except Exception as error:  # noqa: BLE001  tensors of any kind may pass here
            self.decline(f"a call could not be recorded ({type(error).__name__}: {error})")

    def _keep(self, func: Any, args: Any, kwargs: Any, written: list[Tensor]) -> None:
        """Copy what a call is about to write into, and list it."""
        for tensor in _written(func, args, kwargs):
            self.values.keep(tensor)
            written.append(tensor)

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any, writes: bool) -> None:
        name = getattr(func, "__name__", "")
        if name == "__set__" and _property(func) == "data":
            raise NotReplayableError("a tensor was given other data in place")
        told = _told(result) if name in READS else None
        results = () if name in READS else tuple(tensors_in(result))
        if not (results or writes or told is not None) or _is_given(func, name, args):
            return
        if name in ("requires_grad_", "share_memory_") and not self._is_result(args):
            return  # says nothing of the values, and would be said to the user's own tensor
        if transformed() or torch._C._functorch.peek_interpreter_stack() is not None:
            raise NotReplayableError("part of the pass is compiled, or transformed by torch.func")
        given, named = mapped(args, self.values.ref), mapped(kwargs, self.values.ref)
        bound = tuple(self.values.bind(tensor) for tensor in results)
        self.calls.append(TapeCall(func, given, named, Ambient.now(self.devices), bound, told))
        if len(self.calls) > MOST_CALLS or self.values.bytes > MOST_BYTES:
            raise NotReplayableError(
                f"the pass is too large to keep: more than {MOST_CALLS} calls, or more than "
                f"{MOST_BYTES >> 20} MiB given to it"
            )

    def _is_result(self, args: Any) -> bool:
        known = self.values.find(args[0]) if args else None
        return known is not None and known.kind == "slot"


def _why_not() -> str:
    """Return why a tape cannot begin here."""
    if compiled():
        return "torch.compile is in use"
    if any(not isinstance(mode, DeviceContext) for mode in modes()):
        return "a torch function mode of somebody else's is active"
    if torch._C._len_torch_dispatch_stack():
        return "a torch dispatch mode is active"
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        return "no gradient is recorded"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "several processes share the step, and each sees its own part of the batch only"
    return ""


def compiled() -> bool:
    """Whether something ``torch.compile`` has taken in is alive: a mode would have it redone."""
    frames = sys.modules.get("torch._dynamo.convert_frame")
    return frames is not None and any(code() is not None for code in frames.input_codes.seen)


def modes() -> list[Any]:
    """Return the torch function modes that are active, the outermost first."""
    number = torch._C._len_torch_function_stack()
    return [torch._C._get_function_stack_at(place) for place in range(number)]


def _take_off(mode: TorchFunctionMode) -> None:
    """Take a mode away from wherever it stands among those that are active."""
    if not any(each is mode for each in modes()):
        return
    above = []
    while (top := _pop_mode()) is not mode:  # type: ignore[no-untyped-call]
        above.append(top)
    for each in reversed(above):
        _push_mode(each)  # type: ignore[no-untyped-call]


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that a call may write into."""
    name = getattr(func, "__name__", "")
    schema = getattr(func, "_schema", None)
    if schema is not None and schema.is_mutable:
        return list(tensors_in((args, kwargs)))
    into: list[Any] = [kwargs.get("out")]
    in_place = name.endswith("_") and not name.endswith("__")
    if in_place or kwargs.get("inplace") or name in IN_PLACE:
        into += args[:1] or [kwargs.get("input")]
    if name in NORMS:
        into += [*args[1:], *kwargs.values()]
    if name in RENORMS:
        into += [*args[:2], kwargs.get("weight")]
    return list(tensors_in(into))


def _is_given(func: Any, name: str, args: tuple[Any, ...]) -> bool:
    """Whether what a call returns is to be taken as it is, and the call not made again."""
    if name == "__get__":
        return _property(func) in GIVEN_PROPERTIES
    if name not in GIVEN:
        return False
    return name.startswith("__") or not any(True for _ in tensors_in(args))


def _property(func: Any) -> str:
    """Return the name of the property that a getter or setter belongs to."""
    return getattr(getattr(func, "__self__", None), "__name__", "")


def _told(result: Any) -> Any:
    """Return what Python was told, if it can be compared; ``None`` for floats and all else."""
    if isinstance(result, bool | int):
        return result
    if isinstance(result, list) and result and isinstance(result[0], bool | int):
        return list(result)
    return None
