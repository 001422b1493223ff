"""An app that writes rubbish to the page which its worker shares with its siblings, from its first request on."""

from __future__ import annotations

import itertools
import os
import random
import select
import threading
from pathlib import Path
from typing import Any

from plain import app as plain  # type: ignore[import-not-found]

from memunit.worker import scoreboard

_threads: list[threading.Thread] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """As plain.py; `/kept` answers with what became of each attempt to take the page away."""
    if scope["type"] == "http" and not _threads:
        _threads.append(threading.Thread(target=_scribble, daemon=True))
        _threads[0].start()
    if scope["type"] == "http" and scope["path"] == "/kept":
        body = " ".join(_attempts()).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})
        return
    await plain(scope, receive, send)


def _scribble() -> None:
    """All lines, over and over: a worker that has none and always takes more, ones with 4 billion, and noise.

    More often than a worker looks at them, and so that this thread leaves its loop the interpreter.
    """
    page = scoreboard._Inherited.page
    assert page is not None
    line = scoreboard.LINE
    for number in itertools.count():
        for at in range(line, 9 * line, line):
            idle = b"".join(word.to_bytes(4, "little") for word in (1, 0, number & 0xFFFFFFFF))
            page[at : at + 12] = random.choice((idle, idle, b"\xff" * 12, os.urandom(12)))
        page[20:24] = random.choice((b"\xff" * 4, b"\x08\0\0\0", b"\0" * 4))
        select.select([], [], [], 0.0002)


def _attempts() -> list[str]:
    said = []
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and "memunit-scoreboard" in str(entry.readlink()):
            for size in (0, 1 << 30):
                try:
                    os.truncate(entry, size)
                    said.append("done")
                except PermissionError:
                    said.append("refused")
    return said
