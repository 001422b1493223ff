"""Handlers of SIGTERM that the app sets: the drain comes first, then they are called."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import interpreters, stacks
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.wait import DEADLINE
from tests.support.workers import ROOT, Stage

pytest_plugins = ["tests.support.stacks"]

WAYS = [
    ("leaves", "import", 3),
    ("leaves", "lifespan", 3),
    ("leaves", "request", 3),
    ("raises", "lifespan", 0),
    ("default", "lifespan", 0),
    ("blocks", "import", 0),
    ("blocks", "lifespan", 0),
    ("blocks", "request", 0),
    ("removes", "lifespan", 0),
    ("stops", "lifespan", 0),
    ("stops", "request", 0),
    ("cancels", "lifespan", 0),
    ("partial", "request", 0),
]


@pytest.mark.parametrize(
    ("loop", "handler", "where", "status"),
    [("asyncio", *way) for way in WAYS] + [("uvloop", *way) for way in WAYS if way[1] == "lifespan"],
)
def test_the_drain_comes_first(here: Stage, loop: str, handler: str, where: str, status: int) -> None:
    """A request under way and one on a silent connection are answered; then the handler, then lifespan.shutdown."""
    environment = {stacks.KEYS[0]: loop, "HANDLER": handler, "WHERE": where}
    worker = here.start(DEBIAN, "handlers:app", environment=environment).ready()
    with Client(here.target) as slow, Client(here.target) as silent:
        slow.get("/set")
        with Client(here.target) as later:
            # Connections are accepted in order: the silent one has been, too.
            later.get("/set")
        slow.ask("/")
        here.hear(worker.pid, "STATUS=slow")
        worker.stop()
        assert slow.read().body == b"ok %d" % worker.pid
        assert "STATUS=own handler" not in here.said(worker.pid)
        assert silent.get("/").body == b"ok %d" % worker.pid
    assert worker.wait() == status
    said = here.said(worker.pid)
    if handler in ("default", "blocks", "removes"):
        assert not any(line.startswith("STATUS=calling") for line in said)
    else:
        name = {"stops": "stops_the_loop", "cancels": "cancels_all", "partial": "remembers"}.get(
            handler, handler
        )
        calling = f"STATUS=calling the app's own handler of SIGTERM (handlers.{name})"
        assert calling in said, said
        own = next(line for line in said if line.startswith("STATUS=own handler"))
        assert said.index(calling) < said.index(own) < said.index("STATUS=shut down")
    assert "STATUS=shut down" in said
    assert ("LookupError: the app's handler" in worker.output) == (handler == "raises")
    assert handler == "raises" or worker.output == ""


@pytest.mark.parametrize(("server", "attribute"), [("wsgi", "wsgi"), ("callable", "serve")])
def test_a_handler_of_the_import(here: Stage, server: str, attribute: str) -> None:
    """Other servers than ASGI: what the import has set is called at the end, and says the status."""
    environment = {"HANDLER": "leaves", "WHERE": "import"}
    worker = here.start(DEBIAN, f"handlers:{attribute}", server=server, environment=environment).ready()
    if server == "wsgi":
        with Client(here.target) as slow:
            slow.ask("/")
            here.hear(worker.pid, "STATUS=slow")
            worker.stop()
            assert slow.read().body == b"ok %d" % worker.pid
    else:
        worker.stop()
        here.hear(worker.pid, "STATUS=served")
    here.hear(worker.pid, "STATUS=own handler")
    assert worker.wait() == 3


@pytest.mark.parametrize(("server", "attribute"), [("wsgi", "wsgi"), ("callable", "serve")])
def test_what_the_import_blocks_is_heard(here: Stage, server: str, attribute: str) -> None:
    """As for a thread of its own that waits in sigwait(). After a fork of the zygote nothing is blocked either."""
    environment = {"HANDLER": "blocks", "WHERE": "import"}
    worker = here.start(DEBIAN, f"handlers:{attribute}", server=server, environment=environment).ready()
    worker.stop()
    assert worker.wait() == 0


CLAIMS = """
import asyncio, signal
from memunit.worker.signals import Claim
def blocked(): return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
heard = []
"""


def claims(code: str) -> str:
    """What code says that has a claim of its own: a process, for it is one of signals."""
    command = [sys.executable, "-c", CLAIMS + code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_that_waits_is_heard_and_ends_nothing() -> None:
    """The import has blocked it, and it came meanwhile: nothing may be in its way but the claim."""
    code = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,)); signal.raise_signal(signal.SIGTERM)\n"
    )
    assert claims(code + "Claim(heard.append)\nprint(heard, blocked())\n") == "[15] False\n"


def test_a_late_look_takes_nothing_up_again() -> None:
    """A ping that is due while the last tasks end: the stop of the whole unit would end a worker that is done."""
    code = "loop = asyncio.new_event_loop(); claim = Claim(heard.append, loop)\nprint(blocked())\n"
    late = "claim.release(); claim.look()\nprint(blocked())\nloop.close()\n"
    assert claims(code + late + "signal.raise_signal(signal.SIGTERM); print(heard)\n") == "False\nTrue\n[]\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("moment", "own", "status"), [("look", "", 0), ("attach", "", 0), ("look", "own", 3), ("main", "own", 3)]
)
def test_a_stop_while_the_worker_begins(here: Stage, loop: str, moment: str, own: str, status: int) -> None:
    """Between two lines of its beginning: it ends as one that was told later, and prints nothing."""
    environment = {stacks.KEYS[0]: loop, "MOMENT": moment, **({"OWN": own} if own else {})}
    worker = here.start(DEBIAN, "signalled:app", environment=environment)
    assert worker.wait() == status, worker.output
    assert worker.output == ""
    assert "READY=1" not in here.said(worker.pid)


def test_newest_uvicorn(here: Stage) -> None:
    python = interpreters.newest()
    if python is None:
        pytest.skip("the newest uvicorn cannot be installed here")
    environment = {"HANDLER": "leaves", "WHERE": "lifespan"}
    worker = here.start(python, "handlers:app", environment=environment).ready()
    with Client(here.target) as slow:
        slow.ask("/")
        here.hear(worker.pid, "STATUS=slow")
        worker.stop()
        assert slow.read().body == b"ok %d" % worker.pid
    assert worker.wait() == 3
