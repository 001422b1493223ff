"""What a worker that drains still waits for, in one sentence: its STATUS=, which the entry of its end quotes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Optional

from memunit.worker.notify import Notify

if TYPE_CHECKING:
    from memunit.worker.httpserver import HttpServer

_AGAIN = 1.0  # seconds from one STATUS= to the next, and only while the worker drains
_LONGEST = 120  # characters of a path


class Waits:
    """Says what is waited for, each second from tell() on, until over()."""

    def __init__(self, server: HttpServer, notify: Notify) -> None:
        self._server = server
        self._notify = notify
        self._next: Optional[asyncio.TimerHandle] = None

    def tell(self) -> None:
        """Say it now, and go on."""
        # Without waiting: a loop that drains has better to do, and a second later there is more to say.
        self._notify.send("STATUS=" + sentence(self._server), wait=0.0)
        self._next = asyncio.get_running_loop().call_later(_AGAIN, self.tell)

    def over(self) -> None:
        """It is no longer clients that this worker waits for."""
        if self._next is not None:
            self._next.cancel()


def sentence(server: HttpServer) -> str:
    """ "finishing 3 requests, the oldest GET /report for 28 s; 4 connections, 9 tasks, 5 threads"."""
    loop = asyncio.get_running_loop()
    working = [cycle for cycle in server.cycles if not cycle.complete]
    parts = [
        _count(len(server.connections), "connection"),
        _count(len(asyncio.all_tasks(loop)), "task"),
        _count(threading.active_count(), "thread"),
    ]
    left = len(server.cycles) - len(working)
    said = "finishing open connections"
    if working:
        oldest = min(working, key=lambda cycle: cycle.started)
        path = oldest.scope["path"][:_LONGEST]
        age = max(0.0, loop.time() - oldest.started)
        request = f"{oldest.scope['method']} {path} for {age:.0f} s"
        said = f"finishing {_count(len(working), 'request')}, the oldest {request}"
    if left:
        said += f", and the work of {_count(left, 'request')} after the answer"
    return f"{said}; {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
