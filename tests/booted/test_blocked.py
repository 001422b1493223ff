"""Workers whose Python hangs, in each way that it can: found, with their stacks in the journal."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, asgi, emulated, ended, kind, run
from tests.support.http import Client

pytestmark = pytest.mark.native
APPS = Path("/opt/memunit-tests/blocked")
# What the worker hangs in, and the threads that it takes to stop it from serving.
HANGS = {
    "sleeps in the loop": ("asgi", "_sleeps", 1),
    "holds the GIL in the loop": ("asgi", "_computes", 1),
    "holds the GIL in a thread": ("wsgi", "_computes", 1),
    "every thread waits for a lock": ("wsgi", "_waits", 4),
}
SOURCE = """
import os, re, threading, time

_lock = threading.Lock()
_lock.acquire()

def _sleeps():
    time.sleep(1e6)

def _computes():
    re.match("(a+)+$", "a" * 60 + "b")  # in C, and for longer than anybody waits

def _waits():
    _lock.acquire()

def _hang(path):
    os.write(1, b"hangs\\n")
    {"/_sleeps": _sleeps, "/_computes": _computes, "/_waits": _waits}[path]()

async def asgi(scope, receive, send):
    if scope["path"] != "/":
        _hang(scope["path"])
    body = b"ok %d" % os.getpid()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

def wsgi(environ, start_response):
    if environ["PATH_INFO"] != "/":
        _hang(environ["PATH_INFO"])
    body = b"ok %d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("how", HANGS)
def test_a_worker_that_hangs_tells_in_what(how: str) -> None:
    server, function, threads = HANGS[how]
    APPS.mkdir(parents=True, exist_ok=True)
    (APPS / "blocked.py").write_text(SOURCE)
    more = 'server = "wsgi"\nthreads = 4\n' if server == "wsgi" else ""
    watchdog = "15s" if emulated() else "4s"
    # What still hangs at the end is not waited for.
    file = asgi(
        folder=APPS,
        app=f"blocked:{server}",
        workers=f'count = 2\nwatchdog = "{watchdog}"\n',
        more='[stop]\ngrace = "1s"\n',
    )
    with Instance("blocked", file.replace("[workers]", f"{more}[workers]")) as instance:
        instance.start()
        with contextlib.ExitStack() as waiting:
            hung: Counter[int] = Counter()
            while not hung or max(hung.values()) < threads:
                client = waiting.enter_context(Client(instance.target))
                client.ask(f"/{function}")
                told = instance.journal.until(lambda entry: entry.get("MESSAGE") == "hangs", hung.total() + 1)
                hung[int(told[-1]["_PID"])] += 1
            ((first, _),) = hung.most_common(1)
            _assert_told(instance, first, function, threads)


def _assert_told(instance: Instance, first: int, function: str, threads: int) -> None:
    (end,) = instance.journal.until(ended(MEMUNIT_WORKER_PID=first))
    assert end["MEMUNIT_CAUSE"] == "watchdog"
    assert (end["EXIT_CODE"], end["EXIT_STATUS"]) in (("killed", "6"), ("dumped", "6"))
    instance.journal.until(kind(Message.WORKER_READY.id), 3)
    instance.ask()

    # What a process has written may come later than the entry about its end: by another way.
    run("journalctl", "--sync")
    # As the explanation of the entry says: what this very process has written.
    explained = run("journalctl", "-x", "--no-pager", "-n", "1", f"MEMUNIT_WORKER_PID={first}").stdout
    assert f"journalctl _PID={first}" in explained
    lines = run("journalctl", "-o", "cat", f"_PID={first}").stdout.splitlines()
    assert "Fatal Python error: Aborted" in lines
    assert sum(f"in {function}" in line for line in lines) == threads
