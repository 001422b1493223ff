"""What a worker that drains still waits for, in one sentence: its STATUS=, which the entry of its end quotes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from memunit.worker.notify import Notify

if TYPE_CHECKING:
    from memunit.worker.httpserver import HttpServer

_AGAIN = 1.0  # seconds from one STATUS= to the next, and only while the worker drains
_LONGEST = 120  # characters of a path


def tell(server: HttpServer, notify: Notify) -> None:
    """Say what is waited for, now and each second from now on, as long as the loop runs."""
    # Without waiting: a loop that drains has better to do, and a second later there is more to say.
    notify.send("STATUS=" + sentence(server), wait=0.0)
    asyncio.get_running_loop().call_later(_AGAIN, tell, server, notify)


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
