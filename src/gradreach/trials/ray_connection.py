"""Connects to a Ray cluster, or says in one sentence why that cannot be done."""

from __future__ import annotations

import importlib
import os
import socket
import threading
import warnings
from types import ModuleType
from typing import Any

from gradreach.errors import GradreachError, require

__all__ = ["RayError", "connected"]

OLDEST = (2, 40)
PATIENCE = 5.0  # seconds for a host to answer, and again for its cluster to
AUTO = "auto"


class RayError(GradreachError, RuntimeError):
    """Trials cannot be run on Ray."""


def connected(address: str) -> tuple[ModuleType, bool]:
    """Return Ray's module with a cluster behind it, and whether we are the ones who joined it.

    Args:
        address: ``"host:port"`` of a cluster; ``"auto"`` for the one that runs on this machine,
            and a new one on all its cores where none does.

    Raises:
        MissingExtraError: Ray is not installed.
        RayError: It is too old, nobody answers, or the cluster wants a token.
    """
    # Before the import: what the C++ part says while we ask would come before our one sentence.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about Ray's future
        ray = require("ray", extra="ray", purpose="running trials on Ray")
        _check_version(ray)
        if ray.is_initialized():  # the caller's own connection: it stays as it is
            return ray, False
        found = _running() if address == AUTO else address
        if found is not None:
            _check_answers(found)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            if found is None:
                ray.init(include_dashboard=False, **options)
            else:
                ray.init(address=found, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RayError(f"{_nobody(found or AUTO)} ({_first_line(error)})") from error
    return ray, True


def _check_version(ray: ModuleType) -> None:
    found = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if found < OLDEST:
        raise RayError(
            f"running trials on Ray needs Ray {'.'.join(map(str, OLDEST))} or newer, but "
            f"{ray.__version__} is installed: pip install -U 'gradreach[ray]'"
        )


def _running() -> str | None:
    """Return the address of the cluster that this machine is part of; ``None`` without one."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != AUTO:
        return named
    try:
        services = importlib.import_module("ray._private.services")
        found = services.get_ray_address_from_environment(AUTO, None)
    except (ImportError, AttributeError, TypeError, ConnectionError):
        return None
    # Ray notes its last cluster in a file, which outlives a cluster that was killed.
    return found if isinstance(found, str) and _refusal(found) is None else None


def _check_answers(address: str) -> None:
    """Ask the cluster who it is: by itself, Ray would take 20 to 40 s to say less."""
    if "://" in address:  # ray://: Ray's client knows how to reach it, and fails quickly
        raise RayError(
            f"'{address}' is the address of a Ray client; give that of the cluster, such as "
            f"'{address.partition('://')[2].partition(':')[0]}:6379'"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise RayError(
            f"'{address}' is no address of a Ray cluster: give 'auto' or host:port, such as "
            "127.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise RayError(
            f"{_nobody(address)} ({getattr(error, 'strerror', None) or error})"
        ) from error
    answer = _asked(address)
    if answer is None:
        return
    if "auth" in f"{type(answer).__name__} {answer}".lower():
        raise RayError(
            f"the Ray cluster at {address} wants a token that this process does not send: set "
            "RAY_AUTH_MODE=token (the token is read from ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or "
            "RAY_AUTH_TOKEN; it must be the cluster's own)"
        ) from answer
    raise RayError(f"{_nobody(address)} ({_first_line(answer)})") from answer


def _refusal(address: str) -> str | None:
    """Return why no connection to an address can be made; ``None`` where one can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _asked(address: str) -> BaseException | None:
    """Return what went wrong in asking; ``None`` where nothing did or it cannot be asked."""
    try:
        client = importlib.import_module("ray._raylet").GcsClient
    except (ImportError, AttributeError):  # a part of Ray that it may move: then Ray itself asks
        return None
    said: list[BaseException | None] = []

    def ask() -> None:
        try:
            client(address=address).get_all_node_info(timeout=PATIENCE)
            said.append(None)
        except (AttributeError, TypeError):
            said.append(None)
        except Exception as error:  # noqa: BLE001  passed on
            said.append(error)

    # It cannot be interrupted: where something other than a cluster answers, it tries for 40 s.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return said[0] if said else TimeoutError("something answers there, but not as a cluster does")


def _nobody(address: str) -> str:
    return (
        f"no Ray cluster answers at {address}: start one with `ray start --head`, or use --jobs "
        "to run on this machine"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
