"""What an import leaves behind that a fork breaks is found, and named with its line; the rest is left alone."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master.nursery import ZygoteId
from tests.support import interpreters
from tests.support.nest import Nest, nest
from tests.support.workers import APPS

FIRST = ZygoteId(1, 0)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Nest]:
    with nest(tmp_path) as one:
        yield one


def ask(made: Nest, folder: Path, text: str, *options: str, careful: bool = True, name: str = "0") -> None:
    """Ask for a worker of an app that begins with `text`, preloaded if that breaks nothing."""
    (folder / "left.py").write_text(f"{text}\nfrom preloaded import serve\n")
    where = {"PYTHONPATH": str(APPS), "TMPDIR": str(folder)}
    made.ask(name, "left:serve", *options, directory=folder, environment=where, careful=careful)


# What each leaves, and how it is told; {at} stands for the variable "left.x", and the line that made it.
HAZARDS = {
    "process pool": (
        "from concurrent.futures import ProcessPoolExecutor\nx = ProcessPoolExecutor(2)",
        r"semaphores.*: 4 x Lock \(left\.x, a ProcessPoolExecutor, .* line 2\).*pipes.*: 6 x pipe\(7\) \(left\.x, a",
    ),
    "pool": ("import multiprocessing\nx = multiprocessing.Pool(1)", r"threads.*processes.*semaphores.*pipes"),
    "manager": ("import multiprocessing\nx = multiprocessing.Manager()", r"processes.*: .*pid \d+"),
    "queue": (
        "import multiprocessing\nx = multiprocessing.Queue()",
        r"semaphores.*\(left\.x, a Queue, .*pipes.*\(left\.x, a Queue, .*line 2\)",
    ),
    "semaphore": (
        "import multiprocessing\nx = multiprocessing.Semaphore()",
        r"semaphores.*: Semaphore \(left\.x, a Semaphore",
    ),
    "running threads of an executor": (
        "from concurrent.futures import ThreadPoolExecutor\nx = ThreadPoolExecutor(1)\nx.submit(int).result()",
        r"threads.*: ThreadPoolExecutor-0_0",
    ),
    "thread": (
        "import threading\ndef run(): threading.Event().wait()\nthreading.Thread(target=run, daemon=True).start()",
        r"threads.*, which runs left\.run \(.*left\.py line 2\)",
    ),
    "child": (
        "import subprocess\nx = subprocess.Popen(['sleep', '100'])",
        r"processes.*: sleep 100 \(pid \d+\)",
    ),
    "pipe": ("import os\nx = os.pipe()", r"pipes.*: 2 x pipe\(7\)"),
    "fifo": ("import os\nos.mkfifo('f')\nx = os.open('f', os.O_RDWR)", r"pipes.*: pipe\(7\)"),
    "socketpair": (
        "import socket\nx, y = socket.socketpair()",
        r"connections.*: socketpair\(2\) \(left\.x, .*, socketpair\(2\) \(left\.y, a socket, .*line 2\)",
    ),
    "unix": (
        "import socket\nlistening = socket.socket(socket.AF_UNIX)\nlistening.bind('s')\nlistening.listen()\n"
        "x = socket.socket(socket.AF_UNIX)\nx.connect('s')",
        r"connections.*: s \(left\.x, a socket, .*line 5\)",
    ),
    "udp that is connected": (
        "import socket\nx = socket.socket(type=socket.SOCK_DGRAM)\nx.connect(('127.0.0.1', 9))",
        r"connections.*: 127\.0\.0\.1 port 9 \(left\.x, a",
    ),
    "udp with a port": (
        "import socket\nx = socket.socket(type=socket.SOCK_DGRAM)\nx.bind(('127.0.0.1', 0))",
        r"receive what is meant for another: 127\.0\.0\.1 port \d+, datagrams \(left\.x, a",
    ),
    "netlink": (
        "import socket\nx = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        r"receive what is meant for another: netlink\(7\) \(left\.x",
    ),
    "epoll": ("import select\nx = select.epoll()", r"for events.*: epoll\(7\)"),
    "inotify": ("import ctypes\nx = ctypes.CDLL(None).inotify_init1(0)", r"for events.*: inotify\(7\)"),
    "timerfd": (
        "import ctypes\nx = ctypes.CDLL(None).timerfd_create(1, 0)",
        r"for events.*: timerfd_create\(2\)",
    ),
    "eventfd": ("import ctypes\nx = ctypes.CDLL(None).eventfd(0, 0)", r"for events.*: eventfd\(2\)"),
    "timer": (
        "import signal\nsignal.setitimer(signal.ITIMER_VIRTUAL, 99)",
        r"interval timer.*: ITIMER_VIRTUAL",
    ),
    "sqlite": (
        "import sqlite3\nclass Db: pass\nx = Db()\nx.c = sqlite3.connect('shop.db')\n"
        "x.c.execute('create table a(b)')\nx.c.commit()",
        r"database file.*: .*/shop\.db \(left\.x, a Db, .*left\.py line 3\)",
    ),
    "empty sqlite": ("import sqlite3\nx = sqlite3.connect('shop.sqlite3')", r"database file.*/shop\.sqlite3"),
    "wal": ("import os\nx = os.open('odd-wal', os.O_RDWR | os.O_CREAT)", r"database file.*/odd-wal"),
    "half-read file": (
        "x = open(__file__)\nx.readline()\nx.seek(1)",
        r"one position: .*/left\.py \(left\.x, a TextIOWrapper",
    ),
    "archive": (
        "import zipfile\nzipfile.ZipFile('z', 'w').writestr('a', 'b' * 9)\nx = zipfile.ZipFile('z')",
        r"one position: .*/z \(left\.x, a ZipFile",
    ),
    "scratch file": (
        "import tempfile\nx = tempfile.TemporaryFile()",
        r"one position: .*\(left\.x, a BufferedRandom",
    ),
    "flock": (
        "import fcntl\nx = open('l', 'w')\nfcntl.flock(x, fcntl.LOCK_EX)",
        r"locked files.*/l \(FLOCK\) \(left\.x, a TextIOWrapper",
    ),
    "lockf": (
        "import fcntl\nx = open('l', 'w')\nfcntl.lockf(x, fcntl.LOCK_EX)",
        r"locked files.*/l \(POSIX\)",
    ),
    "temporary directory": (
        "import tempfile\nx = tempfile.TemporaryDirectory()",
        r"functions for its end.*: weakref\.finalize: tempfile\.TemporaryDirectory\._cleanup \(left\.x, a Temp",
    ),
    "temporary file": (
        "import tempfile\nx = tempfile.NamedTemporaryFile()",
        r"functions for its end.*: the removal of a temporary file \(left\.x, a _TemporaryFileWrapper",
    ),
    "function of its own": (
        "import atexit\ndef bye(): pass\natexit.register(bye)",
        r"functions for its end.*: atexit: left\.bye \(.*left\.py line 2\)",
    ),
    "removal": (
        "import atexit, shutil\natexit.register(shutil.rmtree, 'nowhere', True)",
        r"atexit: shutil\.rmtree",
    ),
}


@pytest.mark.parametrize("what", HAZARDS)
def test_what_a_fork_breaks(made: Nest, tmp_path: Path, what: str) -> None:
    """No worker is forked, and each starts by itself once the zygote has gone with all that it held."""
    text, told = HAZARDS[what]
    ask(made, tmp_path, text)
    made.settle(lambda: made.apart.get("0"), "a worker that starts by itself")
    assert re.search(told, " ".join(made.declined)), made.declined
    assert made.end(FIRST).pid == made.zygotes[0].child.pid
    assert made.apart["0"].environment["MEMUNIT_SLOT"] == "0"
    assert (made.forked, made.lost, made.warned) == ({}, [], [])
    ask(made, tmp_path, text, name="1")
    made.settle(lambda: made.apart.get("1"), "the next one, without a try")
    assert len(made.zygotes) == 1


def test_a_worker_that_is_asked_for_while_the_declined_zygote_ends(made: Nest, tmp_path: Path) -> None:
    """The one before was once forgotten for it: neither forked, nor refused, nor started by itself."""
    os.mkfifo(tmp_path / "never")
    text = "import atexit\natexit.register(lambda: open('never').read())"
    ask(made, tmp_path, text)
    made.settle(lambda: made.declined or None, "its word that it can't be forked")
    ask(made, tmp_path, text, name="1")
    made.settle(lambda: len(made.apart) == 2 or None, "two workers that start by themselves")
    assert len(made.zygotes) == 1


def test_what_a_fork_does_not_break(made: Nest, tmp_path: Path) -> None:
    """All in one import: what servers that fork have carried along for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        ask(
            made,
            tmp_path,
            "import asyncio, atexit, logging, logging.handlers, mmap, multiprocessing, os, queue, socket, sqlite3\n"
            "import subprocess, tempfile, threading, weakref, zipfile\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "logging.basicConfig(filename='app.log')\n"
            "logging.error('kept')\n"
            "logging.getLogger().addHandler(logging.handlers.SysLogHandler('log'))\n"
            "logging.getLogger().addHandler(logging.handlers.RotatingFileHandler('r.log', maxBytes=9))\n"
            "executor = ThreadPoolExecutor(4)\n"
            "lock, local, waiting = threading.Lock(), threading.local(), queue.Queue()\n"
            "memory = sqlite3.connect(':memory:')\n"
            "memory.execute('create table a(b)')\n"
            "done = subprocess.Popen(['true'])\n"
            "os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)\n"
            "thread = threading.Thread(target=int)\nthread.start()\nthread.join()\n"
            "loop = asyncio.new_event_loop()\nloop.close()\n"
            "asyncio.run(asyncio.sleep(0))\n"
            "read = open(__file__)\nread.read()\n"
            "written = open('out', 'w')\nwritten.write('x')\nwritten.flush()\n"
            "statsd = socket.socket(type=socket.SOCK_DGRAM)\n"
            "later = socket.socket()\n"
            "null = open(os.devnull, 'r+b')\n"
            "room = open('values_1.db', 'a+b')\nroom.truncate(4096)\nmapped = mmap.mmap(room.fileno(), 4096)\n"
            "folder = os.open('.', os.O_RDONLY)\n"
            "shared = mmap.mmap(-1, 4096)\n"
            "with tempfile.TemporaryDirectory() as gone: pass\n"
            "context = multiprocessing.get_context('spawn')\n",
        )
        made.settle(lambda: made.forked.get("0") or made.apart.get("0"), "a worker")
        assert (made.declined, made.warned) == ([], [])
        assert "0" in made.forked


def test_real_apps_are_preloaded(made: Nest, tmp_path: Path) -> None:
    """What the frameworks of examples/ leave at their import, in one app."""
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks cannot be installed here")
    (tmp_path / "left.py").write_text(
        "import django, fastapi, flask, uvloop\n"
        "from django.conf import settings\n"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'x.sqlite3'}})\n"
        "django.setup()\n"
        "from django.db import connection\n"
        "one, two = fastapi.FastAPI(), flask.Flask('left')\n"
        "from preloaded import serve\n"
    )
    made.ask(
        "0",
        "left:serve",
        python=python,
        directory=tmp_path,
        environment={"PYTHONPATH": str(APPS)},
        careful=True,
    )
    made.settle(lambda: made.forked.get("0") or made.apart.get("0"), "a worker")
    assert made.declined == []


ENDINGS = """
import atexit, os, tempfile, weakref
folder = tempfile.TemporaryDirectory()
named = tempfile.NamedTemporaryFile()
log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def say(*words): os.write(log, (" ".join(map(str, words)) + "\\n").encode())
class Last:
    def __del__(self): say("del", os.getpid())
last, finalized = Last(), Last()
weakref.finalize(finalized, lambda: say("finalizer", os.getpid()))
atexit.register(say, "atexit")
atexit.register(lambda: say("lambda", os.getpid()))
say(folder.name, named.name)
def after_fork():
    global own
    own = tempfile.TemporaryDirectory()
    atexit.register(lambda: say("own", os.getpid(), own.name))
"""


def test_what_the_import_wants_done_at_its_end_is_done_once_after_the_last_worker(
    made: Nest, tmp_path: Path
) -> None:
    """And what a worker itself has made goes with that worker."""
    for name in ("0", "1"):
        ask(made, tmp_path, ENDINGS, "--after-fork", "left:after_fork", careful=False, name=name)
        made.stage.hear(made.child(name).child.pid, "READY=1")
    assert "run only once" in " ".join(made.warned)
    zygote = made.zygotes[0].child.pid
    pids = [made.forked[name].child.pid for name in ("0", "1")]
    folder, named = map(Path, (tmp_path / "log").read_text().split())
    made.forked["0"].child.signal(signal.SIGTERM)
    made.end("0")
    assert folder.exists()
    assert named.exists()
    made.nursery.keep(())
    os.kill(zygote, signal.SIGTERM)  # as systemd does to all processes of a unit that it stops
    made.forked["1"].child.signal(signal.SIGTERM)
    made.end("1")
    assert made.end(FIRST).code == "exited"
    assert not folder.exists()
    assert not named.exists()
    lines = (tmp_path / "log").read_text().splitlines()[1:]
    own = [line.split() for line in lines if line.startswith("own ")]
    assert [int(words[1]) for words in own] == pids
    assert not any(Path(words[2]).exists() for words in own)
    rest = [line for line in lines if not line.startswith("own ")]
    assert sorted(rest) == sorted(
        [f"lambda {zygote}", "atexit", f"finalizer {zygote}", *[f"del {zygote}"] * 2]
    )


def test_the_masters_sudden_end_takes_nothing_from_a_worker(made: Nest, tmp_path: Path) -> None:
    """The zygote alone knows when the last of its workers has gone."""
    ask(made, tmp_path, ENDINGS, careful=False)
    worker = made.child("0").child
    made.stage.hear(worker.pid, "READY=1")
    folder = Path((tmp_path / "log").read_text().split()[0])
    made.nursery._zygotes[FIRST]._control.shutdown(socket.SHUT_RDWR)
    assert folder.exists()
    worker.signal(signal.SIGTERM)
    made.end("0")
    assert made.end(FIRST).code == "exited"
    assert not folder.exists()
