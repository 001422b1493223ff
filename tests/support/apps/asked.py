"""A worker that does what the path says, one answer a connection. Words to the test are lines on stdout."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_kept: list[bytearray] = []
_SUBPROCESS = "import sys; kept = bytearray(int(sys.argv[1])); print('here', flush=True); sys.stdin.read()"


def say(text: str) -> None:
    """One whole line at once, or others would come in between."""
    os.write(1, f"{text}\n".encode())


def run(worker: Any) -> None:
    """Serve until told to stop. With ASKED_HOLD, a FIFO that is there, it starts only once somebody writes there. With
    ASKED_COUNT it says when it has pinged so many times more.
    """
    hold = os.environ.get("ASKED_HOLD", "")
    if os.path.exists(hold):  # noqa: PTH110  also for no name at all
        _hold(hold, worker.stopping)
    for each in worker.sockets:
        each.setblocking(False)  # a sibling may be faster to accept
    worker.ready()
    pause = None if worker.watchdog is None else worker.watchdog / 4
    count = int(os.environ.get("ASKED_COUNT", "0"))
    for number in itertools.count():
        if worker.stopping.is_set():
            return
        if count and number and number % count == 0:
            say(f"pinged {count} times {os.getpid()}")
        readable, _, _ = select.select([*worker.sockets, worker.stopping], [], [], pause)
        worker.ping()
        for each in readable:
            if each is not worker.stopping:
                with contextlib.suppress(BlockingIOError):
                    _serve(each)


def _hold(name: str, stopping: Any) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    say("held")
    select.select([reader, stopping], [], [])
    os.close(reader)


def _serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setblocking(True)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        asked = urlsplit(request.split(b" ")[1].decode())
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        body = _PATHS[asked.path](query).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)


def _ok(query: dict[str, str]) -> str:
    return f"ok {os.getpid()}"


def _leak(query: dict[str, str]) -> str:
    _kept.append(bytearray(int(query.get("kb", "64")) * 1024))
    return f"ok {os.getpid()}"


def _free(query: dict[str, str]) -> str:
    _kept.clear()
    return f"ok {os.getpid()}"


def _wait(query: dict[str, str]) -> str:
    say(f"waiting {os.getpid()}")
    Path(query["on"]).read_bytes()
    return f"ok {os.getpid()}"


def _stuck(query: dict[str, str]) -> str:
    say(f"stuck {os.getpid()}")
    reader, _writer = os.pipe()
    return str(os.read(reader, 1))


def _deaf(query: dict[str, str]) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return f"ok {os.getpid()}"


def _exit(query: dict[str, str]) -> str:
    os._exit(int(query["status"]))


def _child(query: dict[str, str]) -> str:
    child = subprocess.Popen(
        [sys.executable, "-c", _SUBPROCESS, str(int(query["kb"]) * 1024)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return f"ok {os.getpid()} {child.pid}"


_PATHS: dict[str, Callable[[dict[str, str]], str]] = {
    "/": _ok,
    "/leak": _leak,
    "/free": _free,
    "/wait": _wait,
    "/stuck": _stuck,
    "/deaf": _deaf,
    "/child": _child,
    "/exit": _exit,
}
