"""An interpreter that is started before anybody knows its app. It loads what every app needs, and waits for the rest.

The rest comes in one packet of JSON, with the descriptors of a launch: {"arguments", "environment", "parent",
"parent_death_signal"}. Then it is as if it had been executed with these. The other side is memunit/master/ahead.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import socket
import sys

from memunit.worker import forked, httpparse, loops, servers, start, zygote

_LATER = (start, zygote)

_CONTROL = 3
_FIRST = 3
_LARGEST = 256 * 1024
_MOST = 253


def wait(server: str, mortal: str = "") -> None:
    """Wait until sys.argv names the app and all else is in place; end the process if nobody needs it.

    `mortal` is not empty if the process will ask for a signal at its parent's death.
    """
    control = socket.socket(fileno=_CONTROL)
    os.set_inheritable(_CONTROL, False)
    _load(server)
    if mortal:
        forked.load_prctl()
    packet, descriptors, _, _ = socket.recv_fds(control, _LARGEST, _MOST)
    if not packet:
        os._exit(0)
    message = json.loads(packet)
    above = _FIRST + len(descriptors)
    copies = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in descriptors]
    control.close()
    for each in descriptors:
        os.close(each)
    for place, copy in enumerate(copies, _FIRST):
        os.dup2(copy, place)
        os.close(copy)
    os.environ.update(message["environment"])
    if message["parent_death_signal"]:
        forked.die_with(message["parent"], message["parent_death_signal"])
    sys.argv[1:] = message["arguments"]


def _load(server: str) -> None:
    """An error here is passed over: it comes again later, and is reported then."""
    with contextlib.suppress(Exception):
        servers.load(server)
    if server in ("asgi", "wsgi"):
        with contextlib.suppress(Exception):
            importlib.import_module("uvicorn.lifespan.on")
        with contextlib.suppress(Exception):
            httpparse.reader(os.environ.get("UVICORN_HTTP", ""))
        with contextlib.suppress(Exception):
            loops.maker()
