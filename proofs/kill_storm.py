"""A writer of a journal killed at random points: nothing flushed is lost, nothing is corrupt.

    ./dev proof kill_storm [--kills 200] [--seed N]

Each round forks a process that writes rows, events and samples as fast as it can and tells the
step through a pipe each time `flush()` has returned; it is killed (SIGKILL) at a random moment.
Then the journal is read: not one line may be damaged, missing or out of order, the rows must be
those of a run without a hole, and every acknowledged step must be there. Every fourth round goes
on in the same run folder and must take over the lock of the dead.

It says nothing about a power cut: a kill leaves what the system holds in memory.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from gradreach.records import Event
from gradreach.runs.journal import JournalWriter, read_journal

STEP = struct.Struct("<q")


def write(folder: Path, first: int, acknowledge: int, seed: int) -> NoReturn:
    """Write until killed."""
    choose = random.Random(seed)
    journal = JournalWriter(folder)
    step = first
    while True:
        for _ in range(choose.randrange(1, 150)):
            journal.row({"step": step, "loss": 1.0 / (step + 1), "gradient_norm": float("nan")})
            step += 1
        if choose.random() < 0.1:
            text = "x" * choose.randrange(1, 50_000)  # lines of many pages, too
            journal.event(Event(kind="jump", step=step, text=text))
        if journal.flush():
            os.write(acknowledge, STEP.pack(step))


def storm(folder: Path, first: int, choose: random.Random) -> int:
    """Start a writer, kill it at a random moment; return how many steps it acknowledged."""
    reading, writing = os.pipe()
    seed = choose.randrange(2**32)
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write(folder, first, writing, seed)
        finally:
            os._exit(1)
    os.close(writing)
    if choose.random() < 0.9:  # in one round of ten also while it opens
        select.select([reading], [], [], 10.0)
    time.sleep(choose.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while part := os.read(reading, 1 << 16):
        told += part
    os.close(reading)
    whole = len(told) // STEP.size * STEP.size
    return STEP.unpack(told[whole - STEP.size : whole])[0] if whole else first


def main() -> None:
    """Run the storm and say what became of it."""
    options = argparse.ArgumentParser(description="kill the writer of a journal, again and again")
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=20130616)
    given = options.parse_args()
    choose = random.Random(given.seed)
    corrupt = lost = torn = taken_over = unacknowledged = 0
    acknowledged = 0
    with tempfile.TemporaryDirectory() as parent:
        folder, first = Path(parent) / "run-0", 0
        for kill in range(given.kills):
            if kill % 4 != 3:
                folder, first = Path(parent) / f"run-{kill}", 0
            promised = storm(folder, first, choose)
            if not (folder / "journal.jsonl").exists():  # killed before it had opened
                continue
            if not (folder / "journal.jsonl").read_bytes().count(b"\n"):
                continue
            taken_over += kill % 4 == 3
            journal = read_journal(folder)
            steps = journal.history["step"].tolist()
            whole = steps == list(range(len(steps))) and not journal.complaints
            corrupt += not whole
            lost += max(0, promised - len(steps))
            torn += journal.torn
            unacknowledged += max(0, len(steps) - promised)
            acknowledged += promised - first
            first = len(steps)
    print(
        f"{given.kills} kills (seed {given.seed}): {corrupt} corrupt journals, {lost} of "
        f"{acknowledged} flushed rows lost; {taken_over} runs continued by the next writer, "
        f"{torn} torn last lines, {unacknowledged} rows there beyond what was flushed."
    )
    sys.exit(bool(corrupt or lost))


if __name__ == "__main__":
    main()
