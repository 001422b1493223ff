"""Booting a machine and following it: one stream, two deadlines, and an end that always comes.

A backend gives a process and a channel (see `guest/usr/lib/throwaway/agent` for what the channel carries).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import selectors
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from throwaway.host import HarnessError

_UP = b"\0memunit-up\n"
_EXIT = b"\0memunit-exit "
_PANIC = re.compile(r"Kernel panic - not syncing: (.*\S)")
# QEMU that emulates takes half a minute on a quiet machine, and was not done after 150 s at a load of 23.
BOOT_SECONDS = 600.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Running:
    """A started machine. `receive` returns b"" when there is nothing (more), and never blocks.

    `console` is what the guest wrote to its console, `errors` what the machine's own process wrote.
    """

    process: subprocess.Popen[bytes]
    channel: int
    receive: Callable[[], bytes]
    console: Path
    errors: Path


Boot = Callable[[], AbstractContextManager[Running]]


@dataclass
class _Stream:
    """Tells the payload's own bytes from the agent's markers."""

    show: Callable[[bytes], None]
    up: bool = False
    status: int | None = None
    results: bytearray = field(default_factory=bytearray)
    _size: int = 0
    _held: bytes = b""

    @property
    def complete(self) -> bool:
        return self.status is not None and len(self.results) >= self._size

    def feed(self, data: bytes) -> None:
        if self.status is not None:
            self.results += data
            return
        data = self._held + data
        self._held = b""
        while True:
            text, mark, rest = data.partition(b"\0")
            if text:
                self.show(text)
            if not mark:
                return
            line, newline, after = (mark + rest).partition(b"\n")
            if not newline and len(line) < 64:
                self._held = line
                return
            if line + newline == _UP:
                self.up = True
            elif line.startswith(_EXIT) and newline:
                status, size = line[len(_EXIT) :].split()
                self.status, self._size = int(status), int(size)
                self.results += after
                return
            else:
                # A NUL of the payload's own.
                self.show(mark)
                data = rest
                continue
            data = after


def follow(boot: Boot, *, deadline: float, results: Path | None = None) -> int:
    """Boot, stream what the payload prints to stdout, and return its exit status.

    `deadline` is in seconds from now for the whole, boot included. What the payload left in /results is
    unpacked to `results`. Raises HarnessError, with the end of the console, when the machine dies, does not
    boot or takes too long.
    """
    out = sys.stdout.buffer

    def show(data: bytes) -> None:
        out.write(data)
        out.flush()

    started = time.monotonic()
    stream = _Stream(show)
    with interruptible(), boot() as running, selectors.DefaultSelector() as selector:
        # Level-triggered on the channel would spin at end of file: the process's end is the other event.
        selector.register(running.channel, selectors.EVENT_READ)
        end = os.pidfd_open(running.process.pid)
        try:
            selector.register(end, selectors.EVENT_READ)
            while not stream.complete:
                limit = started + (deadline if stream.up else min(deadline, BOOT_SECONDS))
                left = limit - time.monotonic()
                if left <= 0:
                    what = "was not done" if stream.up else "had not booted"
                    raise HarnessError(
                        f"the machine {what} after {limit - started:.0f} s{_console(running, stream)}"
                    )
                ready = {key.fd for key, _ in selector.select(left)}
                data = running.receive() if running.channel in ready or end in ready else b""
                if data:
                    stream.feed(data)
                elif end in ready:
                    raise HarnessError(f"{_death(running)}{_console(running, stream)}")
                elif running.channel in ready:
                    selector.unregister(running.channel)
        finally:
            os.close(end)
    if results is not None and stream.results:
        _unpack(bytes(stream.results), results)
    assert stream.status is not None
    return stream.status


def _unpack(archive: bytes, folder: Path) -> None:
    """Regular files alone, and none outside of `folder`: what the guest sends is data."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = Path(member.name)
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or name.is_absolute() or ".." in name.parts:
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.read())


def _death(running: Running) -> str:
    """What is known of a machine that ended before its payload did."""
    with contextlib.suppress(OSError):
        panics = _PANIC.findall(running.console.read_text(errors="replace"))
        if panics:
            return f"the machine's kernel panicked: {panics[0]}"
    return f"the machine died (its process ended with {running.process.poll()})"


def _console(running: Running, stream: _Stream) -> str:
    """The last lines of the console, where they tell something; else those of the machine's process."""
    for said, whose in ((running.console, "its console"), (running.errors, "what its process wrote")):
        with contextlib.suppress(OSError):
            lines = said.read_text(errors="replace").splitlines()[-40:]
            if lines:
                return f"; the end of {whose}:\n" + "\n".join(f"  | {line}" for line in lines)
    return "" if stream.up else "; it wrote nothing to its console"


class Interrupted(BaseException):
    """A signal asked this process to end; the machine goes with it."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While it lasts, SIGINT, SIGTERM and SIGHUP raise Interrupted, so that every `finally` is run."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise Interrupted(signum)

    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, stop) for signum in watched}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
