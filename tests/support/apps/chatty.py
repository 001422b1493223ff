"""An app that prints: at its import a part of a line too, and for each request lines on both streams.

With CHATTY=own it has its own mind about its stdout.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from plain import app as plain  # type: ignore[import-not-found]

if os.environ.get("CHATTY") == "own":
    sys.stdout.reconfigure(line_buffering=False, write_through=True)  # type: ignore[union-attr]

print("imported", "by", os.getpid())
print("loading ...", end="")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        for number in range(3):
            print("said", "by", os.getpid(), number)
            print("told", "by", os.getpid(), number, file=sys.stderr)
    await plain(scope, receive, send)
