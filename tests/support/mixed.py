"""Clients of every kind at once, that count what is lost and, apart from it, each close that HTTP/1.1 allows.

`python3 -m tests.support.mixed --target ADDRESS --stop-file FILE [--websockets] [--leak KB]`, from the root of
the checkout. Prints a report as JSON: for each kind of client its counts. A request that gets no answer is
lost, unless one of these explains it, and then it is sent again:

`told`: the answer before it said `Connection: close` (RFC 9112, 9.6), or the WebSocket got its closing frame
with 1001; `resent` counts the requests, or messages, that were under way just then.
`reopened`: a kept connection ended between two answers, with nothing said: its idle time was over (9.5).

A reset is never explained.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.http import Client
from tests.support.load import Load
from tests.support.wait import DEADLINE
from tests.support.workers import client_process

_PIPELINED = 4
_LARGE = 300_000
_SLOW_READ = 16_384


class Lost(Exception):
    """What no rule explains."""


class Mixed:
    """Two clients of each kind, until stop()."""

    def __init__(self, target: str, *, websockets: bool = False, leak: int = 0) -> None:
        self._target = target
        self._stop = threading.Event()
        self._lock = threading.Condition()
        self._counts: dict[str, Counter[str]] = {}
        self._examples: list[str] = []
        self._loads = {
            name: Load(
                target,
                clients=3,
                path=f"/leak?kb={leak}" if leak else "/",
                keep_alive=name == "kept",
                rate=rate,
            )
            for name, rate in (("new", 150), ("kept", 150))
        }
        kinds: dict[str, Callable[[str], None]] = {
            "pipelined": self._pipelined,
            "slow": self._slow,
            "uploads": self._uploads,
        }
        if websockets:
            kinds["websockets"] = self._websocket
        self._threads = [
            threading.Thread(target=self._guard, args=(name, client), name=name, daemon=True)
            for name, client in kinds.items()
            for _ in range(2)
        ]

    def start(self) -> None:
        """Begin."""
        for load in self._loads.values():
            load.start()
        for thread in self._threads:
            thread.start()

    def finish(self) -> dict[str, Any]:
        """Send nothing more once each kind has been served, wait for what is under way, and report."""
        with self._lock:
            self._lock.wait_for(self._all_served, DEADLINE)
        self._stop.set()
        for load in self._loads.values():
            load.stop()
        for thread in self._threads:
            thread.join()
        report: dict[str, Any] = {name: dict(counts) for name, counts in self._counts.items()}
        for name, load in self._loads.items():
            found = load.join().as_dict()
            report[name] = {key: found[key] for key in ("sent", "ok", "lost", "told", "reopened")}
            self._examples += found["examples"]
        report["examples"] = self._examples
        return report

    def _all_served(self) -> bool:
        kinds = {thread.name for thread in self._threads}
        return all(kind in self._counts and self._counts[kind]["ok"] for kind in kinds)

    def _guard(self, name: str, client: Callable[[str], None]) -> None:
        """Run one client's connections one after the other; an error of any kind is a loss."""
        with self._lock:
            counts = self._counts.setdefault(
                name, Counter(sent=0, ok=0, lost=0, told=0, reopened=0, resent=0)
            )
        while not self._stop.is_set():
            try:
                client(name)
            except (OSError, EOFError, Lost, ValueError) as error:
                with self._lock:
                    counts["lost"] += 1
                    self._examples.append(f"{name}: {error!r}")

    def _count(self, name: str, **more: int) -> None:
        with self._lock:
            self._counts[name].update(more)
            self._lock.notify_all()

    def _pipelined(self, name: str) -> None:
        """One connection: as many requests at once as a browser of old, answered in their order."""
        with Client(self._target) as client:
            fresh = True
            while not self._stop.is_set():
                client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n" * _PIPELINED)
                self._count(name, sent=_PIPELINED)
                for number in range(_PIPELINED):
                    if not client.more():
                        if fresh or number:
                            raise Lost(f"no answer {number}")
                        self._count(name, reopened=1, sent=-_PIPELINED)
                        return
                    closes = self._right(name, client, b"ok ")
                    fresh = False
                    if closes:
                        rest = _PIPELINED - number - 1
                        self._count(name, told=1, resent=rest, sent=-rest)
                        return
                self._stop.wait(0.02)

    def _slow(self, name: str) -> None:
        """One connection: a large answer, read in sips."""
        with Client(self._target) as client:
            while not self._stop.is_set():
                client.ask(f"/large?size={_LARGE}")
                self._count(name, sent=1)
                read = client.sips(_SLOW_READ, lambda: self._stop.wait(0.01))
                if read.status != 200 or read.body != b"x" * _LARGE:
                    raise Lost(f"status {read.status}, {len(read.body)} bytes")
                self._count(name, ok=1)
                if read.closes:
                    self._count(name, told=1)
                    return

    def _uploads(self, name: str) -> None:
        """One connection: bodies that come in two pieces, echoed."""
        body = bytes(range(256)) * 500
        with Client(self._target) as client:
            while not self._stop.is_set():
                client.send(f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n")
                self._count(name, sent=1)
                client.send(body[:1000])
                self._stop.wait(0.01)
                client.send(body[1000:])
                if self._right(name, client, body):
                    self._count(name, told=1)
                    return

    def _websocket(self, name: str) -> None:
        """One connection: a word, and its echo, until told to go."""
        with Client(self._target) as client:
            if client.upgrade("/chat").status != 101:
                raise Lost("no WebSocket")
            while not self._stop.is_set():
                client.send_frame(1, b"hello")
                self._count(name, sent=1)
                opcode, payload = client.read_frame()
                if opcode == 8:
                    if payload[:2] != (1001).to_bytes(2, "big"):
                        raise Lost(f"closed with {payload!r}")
                    client.send_frame(8, payload[:2])
                    self._count(name, told=1, resent=1, sent=-1)
                    if client.more():
                        raise Lost("something after the closing frame")
                    return
                if (opcode, payload) != (1, b"ok hello"):
                    raise Lost(f"frame {opcode}: {payload!r}")
                self._count(name, ok=1)
                self._stop.wait(0.02)
            client.send_frame(8, (1000).to_bytes(2, "big"))
            while client.read_frame()[0] != 8:
                pass

    def _right(self, name: str, client: Client, begins: bytes) -> bool:
        """Read an answer and judge it; whether it is the last of its connection."""
        answer = client.read()
        if answer.status != 200 or not answer.body.startswith(begins):
            raise Lost(f"status {answer.status}: {answer.body[:60]!r}")
        self._count(name, ok=1)
        return answer.closes


class MixedProcess:
    """The same in a process of its own, until finish(). `leak` is in KiB a request."""

    def __init__(self, directory: Path, target: str, *, leak: int, websockets: bool = False) -> None:
        self._fifo = directory / "stop"
        os.mkfifo(self._fifo)
        words = ["--target", target, "--stop-file", str(self._fifo), "--leak", str(leak)]
        command = [sys.executable, "-m", "tests.support.mixed", *words]
        root = Path(__file__).resolve().parents[2]
        self._process = client_process(
            subprocess.Popen(command + ["--websockets"] * websockets, cwd=root, stdout=subprocess.PIPE)
        )

    def finish(self) -> dict[str, Any]:
        """Let what is under way end; the report."""
        with self._fifo.open("w"):
            pass
        output, _ = self._process.communicate(timeout=120)
        report: dict[str, Any] = json.loads(output)
        return report


def main() -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(description="Clients of every kind at once.")
    parser.add_argument("--target", required=True)
    parser.add_argument("--stop-file", required=True, help="a FIFO: its writer's end is the end")
    parser.add_argument("--websockets", action="store_true")
    parser.add_argument("--leak", type=int, default=0, metavar="KB")
    options = parser.parse_args()
    mixed = Mixed(options.target, websockets=options.websockets, leak=options.leak)
    mixed.start()
    Path(options.stop_file).read_bytes()
    print(json.dumps(mixed.finish()))


if __name__ == "__main__":
    main()
