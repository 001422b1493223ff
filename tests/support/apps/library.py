"""A program that calls memunit.run with the arguments that JSON on its command line says."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from asked import run, say  # type: ignore[import-not-found]

import memunit


def clean() -> None:
    """Runs in a worker before it stops accepting."""
    say(f"clean {os.getpid()}")


def raising(worker: Any) -> None:
    """Cannot serve."""
    raise LookupError("no settings")


def waiting(worker: Any) -> None:
    """Waits for the stop alone."""
    worker.ready()
    say(f"slot {worker.slot} generation {worker.generation} with {len(worker.sockets)} sockets")
    worker.stopping.wait()
    say(f"stopping {os.getpid()} {os.environ.get('LISTEN_PID')}")


def main(limit: Any = None, what: str = "run", calls: int = 1, ballast: int = 0, **options: Any) -> None:
    """Call it, and say what it returned or raised."""
    kept = bytearray(ballast)
    function = {"run": run, "raising": raising, "waiting": waiting}[what]
    if "clean" in options:
        options["clean"] = clean
    signal.signal(signal.SIGTERM, _mine)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for _ in range(calls):
        before = _state()
        try:
            say(f"returned {memunit.run(limit, function, **options)}")
        except Exception as error:
            say(f"raised {type(error).__name__}: {error}")
        say("as before" if _state() == before else f"not as before: {before} {_state()}")
    reader.close()
    del kept


def _mine(_number: int, _frame: object) -> None:
    """The program's own handler."""


def _state() -> tuple[object, ...]:
    """What belongs to the program: its handlers, its blocked signals, its wakeup descriptor, its open ones."""
    numbers = sorted(signal.valid_signals())
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    handlers = tuple(str(signal.getsignal(number)) for number in numbers)
    mask = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    descriptors = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    return handlers, mask, wakeup, descriptors


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
