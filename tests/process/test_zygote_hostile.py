"""Apps that do to their zygote what nobody would think of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nest import Nest, nest
from tests.support.workers import APPS


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Nest]:
    with nest(tmp_path) as one:
        yield one


def imported(made: Nest, folder: Path, text: str) -> None:
    """Ask for a worker of an app with this at its beginning."""
    (folder / "strange.py").write_text(f"{text}\nfrom preloaded import serve\n")
    made.ask("0", "strange:serve", directory=folder, environment={"PYTHONPATH": str(APPS)})


def test_a_name_without_end(made: Nest, tmp_path: Path) -> None:
    """A message of the zygote has to fit into a packet, whatever the app has called its thread."""
    thread = "threading.Thread(target=threading.Event().wait, name='x' * 70000, daemon=True).start()"
    imported(made, tmp_path, f"import threading\n{thread}")
    made.settle(lambda: made.forked.get("0"), "a worker")
    assert "x" * 80 in made.warned[0]
    assert len(made.warned[0]) < 400


def test_a_loop_that_cannot_be_asked(made: Nest, tmp_path: Path) -> None:
    imported(made, tmp_path, "import asyncio\nclass Mine(asyncio.AbstractEventLoop): pass\nkept = Mine()")
    made.settle(lambda: made.forked.get("0"), "a worker")
    assert made.warned == []


@pytest.mark.parametrize(
    "packet", [b"garbage", b"[]", b"1", b'{"ready": true}', b'{"pid": 1}', b"\xff", b"{" * 9000]
)
def test_what_is_no_message_ends_the_zygote_and_nothing_else(
    made: Nest, tmp_path: Path, packet: bytes
) -> None:
    """The socket to the master is in the app's process: it can be found, and written to."""
    imported(
        made,
        tmp_path,
        "import os, stat\n"
        "for name in sorted(os.listdir('/proc/self/fd'), key=int):\n"
        "    try:\n"
        "        if int(name) > 2 and os.readlink('/proc/self/fd/' + name).startswith('socket:'):\n"
        f"            os.write(int(name), {packet!r})\n"
        "    except OSError:\n"
        "        pass\n",
    )
    assert made.refusal("0") == "the zygote has sent what is no message of its"
    assert made.forked == {}
