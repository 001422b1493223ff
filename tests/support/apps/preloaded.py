"""ASGI and callable apps for the zygote's tests: they answer with what they find in their process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import threading
from pathlib import Path
from typing import Any

from telling import tell  # type: ignore[import-not-found]

IMPORTED_BY = os.getpid()
CHOSEN = random.random()
_calls: list[str] = []
_blocked = threading.Event()
if os.environ.get("PRELOADED_THREAD"):
    threading.Thread(target=_blocked.wait, name="left-by-import", daemon=True).start()
if os.environ.get("PRELOADED_LOOP"):
    LOOP = asyncio.new_event_loop()
if os.environ.get("PRELOADED_FAIL"):
    raise LookupError("as asked")
if os.environ.get("PRELOADED_CRASH"):
    os.kill(os.getpid(), signal.SIGSEGV)
if os.environ.get("PRELOADED_HOLD"):
    print("importing", flush=True)
    Path(os.environ["PRELOADED_HOLD"]).read_bytes()
if os.environ.get("PRELOADED_HANDLERS"):
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: _calls.append("usr2"))


def facts() -> dict[str, Any]:
    """What a test wants to know of this process."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are what is wanted
        try:
            descriptors[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:
            continue
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "imported_by": IMPORTED_BY,
        "chosen": CHOSEN,
        "random": random.random(),
        "calls": _calls,
        "fds": descriptors,
        "environment": dict(os.environ),
        "blocked": int(status["SigBlk"], 16),
        "ignored": int(status["SigIgn"], 16),
        "threads": int(status["Threads"]),
    }


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Any path answers with facts()."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = json.dumps(facts()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(sockets: list[Any], stopping: Any) -> None:
    """The same without a server."""
    while not stopping.is_set():
        readable, _, _ = select.select([*sockets, stopping], [], [])
        for each in readable:
            if each is stopping:
                continue
            connection, _ = each.accept()
            with connection:
                connection.recv(65536)
                body = json.dumps(facts()).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    tell(f"served to the end after {','.join(_calls)}")


def after_fork() -> None:
    """A hook that leaves a trace."""
    _calls.append(f"after_fork {os.getpid()} slot {os.environ.get('MEMUNIT_SLOT', '-')}")


def bad_after_fork() -> None:
    """A hook that fails."""
    raise ConnectionError("no database")


async def async_after_fork() -> None:
    """A hook that can't be one."""


def before_stop() -> None:
    """A hook that is called in a thread, while the loop goes on."""
    _calls.append("before_stop")
    tell("before_stop in " + threading.current_thread().name)
    hold = os.environ.get("PRELOADED_STOP_HOLD")
    if hold:
        Path(hold).read_bytes()


async def async_before_stop() -> None:
    """A hook in the loop."""
    await asyncio.sleep(0)
    _calls.append("async_before_stop")
    tell("async_before_stop in " + threading.current_thread().name)


def bad_before_stop() -> None:
    """A hook that fails."""
    raise ConnectionError("cannot clean")
