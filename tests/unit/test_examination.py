"""The examination of a heap, in processes of its own: what is hostile there, what is secret, and what it may cost."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from memunit.core import board
from memunit.master.board import Boards
from tests.support.workers import ROOT

_PROGRAM = """
import gc, json, sys
from memunit.worker.examination import baseline, look
baseline._SECONDS = {noting}
import app
if {frozen}:
    gc.collect()
    baseline.expect_in_zygote()
    baseline.note_in_zygote()
    gc.freeze()
baseline.note_objects()
baseline.note_memory()
app.leak()
found = look.examine({seconds}, {size}, ("app",))
print("REPORT", json.dumps(found.report))
"""


def examined(
    directory: Any,
    code: str,
    *,
    frozen: bool = False,
    seconds: float = 900.0,
    size: int = 256 << 20,
    noting: float = 60.0,
) -> dict[str, Any]:
    """The report of a process that has imported `code` as `app`, has noted that, and has then called app.leak()."""
    (directory / "app.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(frozen=frozen, seconds=seconds, size=size, noting=noting)],
        cwd=directory,
        env={"PYTHONPATH": f"{directory}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(each for each in done.stdout.splitlines() if each.startswith("REPORT "))
    assert done.stdout.strip() == line, "the app was called"
    report: dict[str, Any] = json.loads(line.removeprefix("REPORT "))
    return report


HOSTILE = """
CALLED = []

def called(*_args, **_kwargs):
    print("called", flush=True)
    os._exit(3)

class Meta(type):
    __hash__ = __eq__ = __instancecheck__ = __subclasscheck__ = __repr__ = __getattribute__ = called

names = ("__len__", "__iter__", "__getitem__", "__repr__", "__str__", "__sizeof__", "__hash__", "__eq__", "__bool__",
         "__getattr__", "__getattribute__", "__reversed__", "__contains__", "__dir__", "__reduce_ex__", "__format__")

def hostile(base, metaclass=type):
    space = {name: called for name in names}
    space["__class__"] = property(called)
    space["__module__"] = "app"
    return metaclass(f"Hostile{base.__name__}", (base,), space)

class Held:
    pass

KINDS = [hostile(each) for each in (object, dict, list, set, tuple, str, int)] + [hostile(object, Meta)]
held = Held()

def leak():
    kept = []
    for number in range(60_007):
        kind = KINDS[number % len(KINDS)]
        new = kind.__base__.__new__ if kind is not KINDS[-1] else object.__new__
        each = new(kind)
        kept.append([each, bytes(400)])
    kept.append(kept[0])
    held.kept = kept
    grown = list.__new__(KINDS[2])
    list.extend(grown, [bytes(400) for _ in range(100)])
    held.other = grown
"""


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_of_the_apps_is_called(tmp_path: Any, *, frozen: bool) -> None:
    """Whatever a class has for len(), repr(), hash(), == or an attribute, it may raise, block or lie."""
    report = examined(tmp_path, HOSTILE, frozen=frozen)
    assert (report["verdict"], report["holder"]) == ("python", "app.held.kept")


def test_a_class_that_lies_is_weighed_as_what_it_is(tmp_path: Any) -> None:
    code = """
    class Liar(dict):
        def __len__(self):
            return 3
        def __sizeof__(self):
            return 1 << 60
    SEEN = Liar()
    def leak():
        for number in range(100_003):
            SEEN[number] = bytes(300)
    """
    report = examined(tmp_path, code)
    assert report["holder"] == "app.SEEN"
    assert report["type"] == "app.Liar"
    assert report["length"] == 100_003
    assert 100_003 * 300 < report["bytes"] < 100_003 * 500


SECRETS = """
import collections, contextvars, threading, types
SEEN = {}
SECRET = "hunter2-\\u00e9"
V = contextvars.ContextVar("V", default={})
class User:
    def __init__(self, secret):
        self.secret = secret
        setattr(self, "hunter2 attribute", secret)
users = {}
def leak():
    for number in range(40_009):
        secret = f"hunter2-{number}"
        users[secret] = User(secret)
        SEEN[secret] = {secret: [secret] * 8}
        V.get()[secret] = secret
    kind = type("hunter2-type", (), {})
    globals()["hunter2-global"] = [kind() for _ in range(20_000)]
    threading.Thread(target=threading.Event().wait, name="hunter2-thread", daemon=True).start()
"""


@pytest.mark.parametrize("frozen", [False, True])
def test_no_value_of_the_apps_is_in_the_report(tmp_path: Any, *, frozen: bool) -> None:
    """Names, types, lengths and sizes; keys and values, and names that are no identifiers, stay where they are."""
    report = examined(tmp_path, SECRETS, frozen=frozen)
    assert "hunter2" not in json.dumps(report)
    assert {each["name"] for each in report["holders"]} & {"app.users", "app.SEEN"}


def test_what_was_large_from_the_start_is_not_named(tmp_path: Any) -> None:
    """A model that the import has loaded is no leak, however large it is beside one that grows."""
    code = """
    MODEL = {number: str(number) for number in range(300_000)}
    WEIGHTS = bytearray(b"x" * 50_000_000)
    VOCABULARY = [str(number) for number in range(300_000)]
    NAMES = frozenset(VOCABULARY)
    SEEN = []
    def leak():
        for number in range(30_011):
            SEEN.append(bytes(1000))
        SEEN.append(b"")
        MODEL[-1] = ""
        VOCABULARY.append("")
    """
    for frozen in (False, True):
        report = examined(tmp_path, code, frozen=frozen)
        assert (report["verdict"], report["holder"]) == ("python", "app.SEEN")
        assert {each["name"] for each in report["holders"]} == {"app.SEEN"}


@pytest.mark.parametrize("frozen", [False, True])
def test_what_was_not_noted_is_not_named(tmp_path: Any, *, frozen: bool) -> None:
    """A heap too large to be noted whole: what a part lacks may have been as large at the start."""
    code = """
    MODEL = {number: str(number) for number in range(300_000)}
    WEIGHTS = bytearray(b"x" * 50_000_000)
    LOST = []
    def leak():
        import ctypes
        LOST.append(ctypes.create_string_buffer(60_000_000))
        ctypes.memset(LOST[0], 1, 60_000_000)
    """
    report = examined(tmp_path, code, frozen=frozen, noting=-1.0)
    assert report["complete"] is False
    assert (report["verdict"], report["holder"], report["holders"]) == ("unknown", "", [])


def test_a_worker_that_has_not_grown_has_no_leak(tmp_path: Any) -> None:
    report = examined(tmp_path, "DATA = [str(number) for number in range(200_000)]\ndef leak(): pass\n")
    assert (report["verdict"], report["holder"]) == ("baseline", "")


def test_a_heap_of_three_million_objects_keeps_the_bounds(tmp_path: Any) -> None:
    """It finds what it can within its memory; its time is only bounded here against what would never end."""
    code = """
    ROWS = []
    def leak():
        for _ in range(30_003):
            ROWS.append([[] for _ in range(100)])
        ROWS.extend([[] for _ in range(50)])
    """
    report = examined(tmp_path, code, size=64 << 20)
    assert (report["verdict"], report["holder"]) == ("python", "app.ROWS")
    assert report["used"] < 2 * (64 << 20)
    assert report["usec"] < 900_000_000


def test_what_is_too_much_for_its_memory_ends_it(tmp_path: Any) -> None:
    """A tree that no container is the root of."""
    code = """
    HEAD = None
    def leak():
        global HEAD
        for number in range(1_000_003):
            HEAD = (HEAD, [number])
    """
    report = examined(tmp_path, code, size=16 << 20)
    assert report["stopped_for"] == "memory"
    assert not report["complete"]
    assert report["holder"] == ""
    assert report["used"] < 48 << 20


def test_full_containers_are_no_leak(tmp_path: Any) -> None:
    """By functools, by a deque's maxlen, by a maximum that the holder names, and by a number in the module's code."""
    head = "import collections, functools\n"
    cases = {
        "app.price": "@functools.lru_cache(maxsize=50_000)\ndef price(n):\n    return bytes(900)\n"
        "def leak():\n    for n in range(80_003): price(n)\n",
        "app.LAST": "LAST = collections.deque(maxlen=50_000)\n"
        "def leak():\n    for n in range(80_003): LAST.append(bytes(900))\n",
        "app.SEEN": "SEEN = {}\ndef leak():\n    for n in range(80_003):\n        SEEN[n] = bytes(900)\n"
        "        if len(SEEN) > 50_000: SEEN.pop(next(iter(SEEN)))\n",
    }
    for name, code in cases.items():
        report = examined(tmp_path, head + code)
        assert (report["verdict"], report["holder"], report["bound"]) == ("baseline", name, 50_000)


def test_a_cache_that_is_not_full_has_its_bound_told(tmp_path: Any) -> None:
    code = """
    import functools
    @functools.lru_cache(maxsize=1_000_000)
    def price(n): return bytes(900)
    def leak():
        for n in range(20_003): price(n)
    """
    report = examined(tmp_path, code)
    assert (report["verdict"], report["holder"], report["bound"]) == ("python", "app.price", None)
    assert report["most"] == 1_000_000
    assert report["holders"][0]["most"] == 1_000_000


def test_a_bounded_number_of_growing_lists_is_a_leak(tmp_path: Any) -> None:
    code = """
    LISTS = {number: [] for number in range(1000)}
    def leak():
        for number in range(700_001):
            LISTS[number % 1000].append(str(number))
    """
    report = examined(tmp_path, code)
    assert (report["verdict"], report["holder"], report["bound"]) == ("python", "app.LISTS[…]", None)


def test_what_no_module_leads_to_is_not_called_native(tmp_path: Any) -> None:
    """A reference in C holds it, and the collector is not told of that."""
    code = """
    import ctypes
    def leak():
        kept = [bytes(900) for _ in range(40_007)]
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    """
    report = examined(tmp_path, code)
    assert (report["verdict"], report["holder"]) == ("python", "")


def test_a_linked_list_has_no_name(tmp_path: Any) -> None:
    """Unknown is allowed, wrong is not."""
    code = """
    class Node:
        def __init__(self, next): self.next = next; self.data = bytes(200)
    HEAD = None
    def leak():
        global HEAD
        for number in range(100_003): HEAD = Node(HEAD)
    """
    report = examined(tmp_path, code)
    assert (report["verdict"], report["holder"]) == ("python", "")


def test_a_report_that_can_not_be_written_keeps_nobody_from_ending() -> None:
    """Of an app that has left nothing to import json with, as one that is out of descriptors."""
    program = """if True:
        import os, sys
        from memunit.worker import board, examined
        from memunit.worker.examination import look
        from memunit.worker.notify import Notify
        os.environ["MEMUNIT_EXAMINE"] = "true"
        board.take()
        examined.expect("app")
        examined.note_objects()
        examined.note_memory()
        sys.modules["json"] = None
        examined.examine(Notify({}))
        print("ended")
    """
    boards: Boards[str] = Boards(board.header(), board.SIZE)
    try:
        descriptor = boards.make("one")
        boards.write("one", board.order(board.Reason.MEMORY_LIMIT, 60.0, 64 << 20), board.ORDER)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "MEMUNIT_BOARD": str(descriptor)},
            pass_fds=[descriptor],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        left = board.parse(boards.read("one"))
    finally:
        boards.close()
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    assert "it can't be examined for what grows: " in done.stderr
    assert left is not None
    assert (left.stage, left.report) == (board.Stage.GAVE_UP, None)
