"""``gradreach serve``: runs as a page that grows while they train."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradreach.cli.lazy_group import HELP
from gradreach.runs.folder import RunFolderError

if TYPE_CHECKING:
    from gradreach.report.live.server import LiveServer

__all__ = ["serve"]

PORT = 8472
LEAST_TOKEN = 16  # characters of a token that others can try to guess
GRACE_SECONDS = 15.0  # after the process ended and the last page was closed


@click.command(context_settings=HELP)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
              help="Where to listen; where that is taken, the next free one. 0: any.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Which of this machine's addresses to listen on.")  # fmt: skip
@click.option("--public", is_flag=True,
              help="Allow an address that other machines can reach.")  # fmt: skip
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME",
              help="A further name that browsers may ask for, of a tunnel or a proxy.")  # fmt: skip
@click.option("--token", metavar="TEXT",
              help="The secret in the page's address; by default a new one each time.")  # fmt: skip
@click.option("--until-ended", type=click.IntRange(0), metavar="PID", hidden=True,
              help="End when this process is gone and no page is open.")  # fmt: skip
@click.option("--playground", is_flag=True,
              help="Show the smallest recurrent networks to play with; needs no run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object.")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.pass_context
def serve(
    context: click.Context,
    port: int,
    host: str,
    public: bool,
    allowed: tuple[str, ...],
    token: str | None,
    until_ended: int | None,
    playground: bool,
    as_json: bool,
    runs: tuple[Path, ...],
) -> int:
    """Show runs as a page that grows while they train.

    RUNS are folders of `gradreach diagnose` or `gradreach.watch(run=…)`, or a folder of them, and
    may still be going on. The page only shows; it is for this machine, and for whoever has its
    address. Ctrl-C ends it.
    """
    from gradreach.report.live.access import is_loopback, own_names
    from gradreach.report.live.runs import ServedRuns
    from gradreach.report.live.server import open_server

    if not runs and not playground:
        raise click.UsageError(
            "Missing argument 'RUNS...': name a run, or give --playground", context
        )
    reachable = not is_loopback(host)
    if reachable and not public:
        raise click.UsageError(
            f"--host {host} can be reached by other machines: add --public if that is meant, or "
            "use an SSH tunnel to 127.0.0.1",
            context,
        )
    if token is not None and (len(token) < (LEAST_TOKEN if reachable else 1) or not _plain(token)):
        raise click.UsageError(
            f"--token must be letters, digits, - and _, at least {LEAST_TOKEN} of them where other "
            f"machines can reach the page; got {len(token)} characters",
            context,
        )
    try:
        server = open_server(
            host, port, ServedRuns(runs), token or secrets.token_urlsafe(18),
            own_names(host, allowed), any_address=reachable,
        )  # fmt: skip
    except RunFolderError as error:
        raise click.UsageError(str(error), context) from error
    except OSError as error:
        raise click.UsageError(
            f"--host {host} --port {port} cannot be listened on ({error.strerror or error}): name "
            "another one",
            context,
        ) from error
    path = "/playground" if playground else "/"
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    # From the first line on somebody may press Ctrl-C: that is how this command ends.
    with contextlib.suppress(KeyboardInterrupt):
        _announce(server, port, reachable, as_json, path, by_diagnose=until_ended is not None)
        _wait(server, thread, until_ended)
    server.close()
    return 0


def _plain(token: str) -> bool:
    return token.isascii() and token.replace("-", "").replace("_", "").isalnum()


def _announce(
    server: LiveServer, port: int, reachable: bool, as_json: bool, path: str, *, by_diagnose: bool
) -> None:
    if port and server.server_port != port:
        click.echo(f"Port {port} is taken; using {server.server_port}.", err=True)
    if reachable:
        click.echo(
            "Warning: other machines can reach this page, and whoever reads the network can read "
            "its address and all that it shows: it is not encrypted.",
            err=True,
        )
    url = server.address_of(path)
    if as_json:
        told = {"schema_version": 1, "url": url, "port": server.server_port}
        click.echo(json.dumps(told))
    else:
        name = "Live page" if path == "/" else "Playground"
        click.echo(f"{name}: {url}", err=by_diagnose)


def _wait(server: LiveServer, thread: threading.Thread, until_ended: int | None) -> None:
    """Wait until nobody needs the page any more; without ``until_ended``, for Ctrl-C."""
    quiet = time.monotonic()
    while thread.is_alive():
        thread.join(0.5)
        if until_ended is None or server.watching or _lives(until_ended):
            quiet = time.monotonic()
        elif time.monotonic() - quiet > GRACE_SECONDS:
            return


def _lives(pid: int) -> bool:
    """Whether a process is still there; not ours to end, only to look."""
    if os.name == "nt":  # os.kill would end it there, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
