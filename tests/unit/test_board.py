"""The page of one worker: both halves of its layout, and what the master makes of whatever stands there."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.core import board as layout
from memunit.core.model import Cause
from memunit.master.board import Boards
from memunit.worker import board as worker


@pytest.fixture
def boards() -> Iterator[Boards[str]]:
    made: Boards[str] = Boards(layout.header(), layout.SIZE)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _own_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker._Own, "page", None)


def page_of(boards: Boards[str], name: str = "one") -> worker.Page:
    """The worker's half, as a process of its own would have it."""
    worker.take({"MEMUNIT_BOARD": str(os.dup(boards.make(name)))})
    page = worker.own()
    assert page is not None
    return page


def read(boards: Boards[str], name: str = "one") -> layout.Board:
    found = layout.parse(boards.read(name))
    assert found is not None
    return found


def test_both_halves_have_the_same_layout(boards: Boards[str]) -> None:
    names = "MAGIC VERSION SIZE ROUTES SLOTS NAME_SIZE SLOT_SIZE MOST_REPORT ORDER STATE UNLISTED "
    names += "GIVEN_BACK COUNTS IN_WORK NAMES REPORT"
    for name in names.split():
        assert getattr(layout, name) == getattr(worker, name), name
    for stage in layout.Stage:
        assert stage is layout.Stage.NONE or getattr(worker, stage.name) == stage
    for reason in layout.Reason:
        assert reason is layout.Reason.NONE or getattr(worker, reason.name) == reason
    page = page_of(boards)
    assert page.order() == (0, 0, 0)
    boards.write("one", layout.order(layout.Reason.EXAMINE, 1.5, 64 << 20), layout.ORDER)
    assert page.order() == (worker.EXAMINE, 1500, 64 << 20)
    page.stage(worker.DRAINING)
    page.gave_back(1000)
    page.gave_back(24)
    assert page.report(b'{"verdict": "python"}')
    found = read(boards)
    assert (found.reason, found.stage) == (layout.Reason.EXAMINE, layout.Stage.DRAINING)
    assert (found.gave_back, found.gave_back_bytes) == (2, 1024)
    assert found.report == b'{"verdict": "python"}'


def test_a_report_is_there_whole_or_not_at_all(boards: Boards[str]) -> None:
    page = page_of(boards)
    assert read(boards).report is None
    most = b"x" * layout.MOST_REPORT
    assert page.report(most)
    assert read(boards).report == most
    assert not page.report(most + b"x")
    assert not page.report(b"")
    assert read(boards).report == most


def test_nobody_can_change_its_size(boards: Boards[str]) -> None:
    descriptor = boards.make("one")
    for size in (0, layout.SIZE - 1, layout.SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


def test_a_worker_that_has_ended_has_no_page(boards: Boards[str]) -> None:
    descriptor = boards.make("one")
    boards.release("one")
    boards.release("one")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert layout.parse(boards.read("one")) is None
    boards.write("one", b"nobody reads this", layout.ORDER)


def test_what_was_passed_on_goes_on_with_those_that_are_there(boards: Boards[str]) -> None:
    for name in ("one", "two"):
        page_of(boards, name).stage(worker.SERVING)
    kept = boards.kept()
    later: Boards[str] = Boards(layout.header(), layout.SIZE)
    later.resume(kept, {"two"})
    assert read(later, "two").stage is layout.Stage.SERVING
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept["one"])
    boards.resume({}, ())


def test_without_descriptors_a_worker_goes_on_without(
    boards: Boards[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert boards.make("one") == -1
    assert boards.read("one") == b""


@pytest.mark.parametrize("said", ["", "x", "-1", "999999", "1" * 40, "٣"])
def test_a_worker_without_a_page_serves_as_ever(said: str) -> None:
    environment = {"MEMUNIT_BOARD": said}
    worker.take(environment)
    assert worker.own() is None
    assert environment == {}
    worker.stage(worker.SERVING)


def test_a_page_of_another_version_is_none() -> None:
    descriptor = os.memfd_create("another")
    os.ftruncate(descriptor, layout.SIZE)
    os.pwrite(descriptor, b"memunitW\xff", 0)
    worker.take_descriptor(descriptor)
    assert worker.own() is None


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Cause.MEMORY_LIMIT, layout.Reason.MEMORY_LIMIT),
        (Cause.PRESSURE, layout.Reason.PRESSURE),
        (Cause.RELOAD, layout.Reason.OTHER),
        (None, layout.Reason.OTHER),
    ],
)
def test_why_a_worker_stops(cause: Cause | None, reason: layout.Reason) -> None:
    assert layout.reason_of(cause) is reason


@given(st.floats(allow_nan=False), st.integers())
def test_any_budget_has_a_place(budget: float, memory: int) -> None:
    assert len(layout.order(layout.Reason.EXAMINE, budget, memory)) == 16


pieces = st.lists(st.tuples(st.integers(0, layout.SIZE - 1), st.binary(max_size=400)), max_size=40)


@given(pieces, st.binary(max_size=8))
def test_whatever_a_worker_writes_is_bounded_and_printable(
    scribbled: list[tuple[int, bytes]], pattern: bytes
) -> None:
    page = bytearray((pattern or b"\0") * layout.SIZE)[: layout.SIZE]
    for place, data in scribbled:
        page[place : place + len(data)] = data
    del page[layout.SIZE :]
    head = layout.header()
    page[: len(head)] = head
    page += bytes(layout.SIZE - len(page))
    found = layout.parse(bytes(page))
    assert found is not None
    assert len(found.routes) <= layout.ROUTES
    assert len(found.in_work) <= layout.SLOTS
    assert found.report is None or len(found.report) <= layout.MOST_REPORT
    for name in [name for name, _ in found.routes] + [each.route for each in found.in_work]:
        assert len(name) <= layout.NAME_SIZE
        assert name.isprintable()
    assert found.served >= 0
    assert [each.begun for each in found.in_work] == sorted(each.begun for each in found.in_work)


@given(st.binary(max_size=layout.SIZE + 10))
def test_what_is_no_page_is_nothing(data: bytes) -> None:
    assert layout.parse(data) is None


def test_the_mapping_reaches_the_master(boards: Boards[str]) -> None:
    page = page_of(boards)
    assert isinstance(page.memory, mmap.mmap)
    slot = struct.pack("<QI12s104s", 5_000_000_000, layout.UNKNOWN, b"GET", b"/product/7?secret=1")
    page.memory[layout.IN_WORK : layout.IN_WORK + layout.SLOT_SIZE] = slot
    (request,) = read(boards).in_work
    assert request == layout.InWork("GET /product/{}", 5.0)
