"""What a zygote rehearses leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from memunit.worker import board, examined, inherited, rehearsals, signals
from memunit.worker.examination import memory
from memunit.worker.hooks import Hooks
from memunit.worker.inherited import Inherited
from memunit.worker.notify import notifying
from memunit.worker.problem import Unusable
from memunit.worker.serving import Prepared, Server


def _descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def test_a_claim_is_rehearsed_with_a_signal_that_nobody_uses() -> None:
    loop = asyncio.new_event_loop()
    before = [signal.getsignal(each) for each in signals.CLAIMED]
    try:
        signals.rehearse(loop)
        assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
        assert [signal.getsignal(each) for each in signals.CLAIMED] == before
        assert signals.stopped_at() is None
        assert "add_signal_handler" not in vars(loop)
    finally:
        loop.close()


def test_no_claim_is_rehearsed_where_the_app_has_a_handler() -> None:
    def own(_signum: int, _frame: object) -> None:
        pass

    loop = asyncio.new_event_loop()
    before = signal.signal(signal.SIGURG, own)
    try:
        signals.rehearse(loop)
        assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, before)
        loop.close()


def test_a_page_is_rehearsed_with_one_that_is_none() -> None:
    before = _descriptors()
    board.rehearse()
    assert board.own() is None
    assert _descriptors() == before


def test_messages_of_a_rehearsal_reach_nobody() -> None:
    before = _descriptors()
    with notifying(pings=True) as notify:
        assert notify.send("READY=1")
        assert notify.watchdog == 3600.0
    assert not notify.send("READY=1")
    with notifying(pings=False) as notify:
        assert notify.watchdog is None
    assert _descriptors() == before


def test_where_nobody_may_want_an_examination_nothing_is_loaded_for_one() -> None:
    examined.expect("shop")
    examined.load_in_zygote()
    examined.rehearse()
    assert not examined.wanted()


@pytest.mark.parametrize("failure", [OSError(24, "Too many open files"), MemoryError(), Unusable("no loop")])
def test_one_that_fails_after_the_first_fork_costs_nobody_a_worker(failure: Exception) -> None:
    """Descriptors may be short by then; before, somebody waits for a worker that could not serve."""

    def rehearse(_entries: list[Inherited], _hooks: Hooks) -> None:
        raise failure

    prepared = Prepared(Server(lambda _entries, _notify, _hooks: 0, rehearse), Hooks(None, None))
    rehearsals.well(prepared, [])
    with pytest.raises(type(failure)):
        rehearsals.once(prepared, [])


def test_sockets_that_a_zygote_can_not_use_stay_open(tmp_path: Path) -> None:
    """Each worker is to say what is wrong with them."""
    with socket.socket() as good, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bad:
        good.listen()
        bad.bind(str(tmp_path / "datagrams"))
        entries = [Inherited("web", good.fileno()), Inherited("odd", bad.fileno())]
        for _ in range(2):
            with pytest.raises(Unusable, match="ListenDatagram="):
                inherited.open_stream_listeners(entries)
        assert os.fstat(good.fileno())
        assert os.fstat(bad.fileno())


def test_a_reading_is_looked_at_later() -> None:
    taken = memory.take()
    with socket.socket():
        told, now = memory.told(taken), memory.read()
    assert told.anonymous > 0
    assert told.threads >= 1
    assert (now.descriptors, now.sockets) == (told.descriptors + 1, told.sockets + 1)
