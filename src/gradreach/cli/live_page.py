"""Starts the live page of a run in a process of its own, before the script begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["open_live_page"]

# Between us and the server stands a process that ends at once, so that the server is nobody's
# child: a script that waits for all of its own children must not wait for ours. The server has no
# stream of ours either, or whoever reads the script's output to its end would wait for a page to
# be closed. It is nice to the training, and told to end after it.
LAUNCH = """
import os, subprocess, sys
quiet = subprocess.DEVNULL
server = subprocess.Popen(sys.argv[1:], stdin=quiet, stdout=subprocess.PIPE, stderr=quiet,
                          start_new_session=True, preexec_fn=lambda: os.nice(10))
sys.stdout.write(server.stdout.readline().decode())
sys.stdout.flush()
os._exit(0)
"""
START_SECONDS = 30.0


def open_live_page(folder: Path) -> str:
    """Start the page of a run folder and return one line to print: where it is, or why not.

    The script's process gains nothing but the time this takes, about a second: no thread, no
    child, no open file. Whatever becomes of the server, the script runs.

    Args:
        folder: The run folder, absolute.
    """
    # -P: a file of the user's that is called like a module of ours must not be taken for it.
    own = [sys.executable, "-P", "-m", "gradreach", "serve", "--json"]
    own += ["--until-ended", str(os.getpid()), "--", str(folder)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCH, *own],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        url = json.loads(done.stdout)["url"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        return f"The live page could not be started ({type(error).__name__}); the script runs.\n"
    return f"Live page: {url}\n"
