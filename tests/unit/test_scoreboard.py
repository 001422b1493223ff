"""The page that workers share: both halves of its layout, who has which line, and what a worker makes of it."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator

import pytest

from memunit.core import scoreboard as layout
from memunit.master.scoreboard import Scoreboard
from memunit.worker import scoreboard as worker
from memunit.worker.siblings import Siblings


@pytest.fixture
def board() -> Iterator[Scoreboard[str]]:
    made: Scoreboard[str] = Scoreboard(layout.header, line_size=layout.LINE_SIZE, lines=layout.LINES)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _own_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker._Inherited, "page", None)
    monkeypatch.setattr(worker._Inherited, "line", "")


def joined(board: Scoreboard[str], name: str) -> Siblings:
    """A worker of this master, as a process of its own would be."""
    index = board.assign(name)
    environment = {"MEMUNIT_SCOREBOARD": str(os.dup(board.fileno())), "MEMUNIT_SCOREBOARD_LINE": str(index)}
    worker.take(environment)
    place = worker.place(environment)
    assert environment == {}
    assert place is not None
    return Siblings(place)


def line(board: Scoreboard[str], name: str) -> layout.Line:
    """What the master reads of it."""
    written = board.read(name)
    assert written is not None
    return layout.parse(written)


def test_both_halves_have_the_same_layout(board: Scoreboard[str]) -> None:
    assert (layout.MAGIC, layout.VERSION, layout.LINE_SIZE) == (worker.MAGIC, worker.VERSION, worker.LINE)
    siblings = joined(board, "one")
    siblings.publish(accepting=True, connections=3)
    siblings.count(5, 2)
    siblings.count(4, 0)
    siblings.count(6, 2)
    assert line(board, "one") == layout.Line(accepting=True, connections=6, accepted=4)


def test_a_line_is_empty_when_its_worker_has_ended(board: Scoreboard[str]) -> None:
    one, two = joined(board, "one"), joined(board, "two")
    one.publish(accepting=True, connections=30)
    assert two.look() == (1, 30)
    board.release("one")
    assert two.look() == (0, 0)
    # The lowest that is free, so that there are few to look at.
    three = joined(board, "three")
    assert line(board, "three") == layout.Line(accepting=False, connections=0, accepted=0)
    three.publish(accepting=True, connections=1)
    assert two.look() == (1, 1)


def test_there_are_only_so_many_lines(board: Scoreboard[str]) -> None:
    given = [board.assign(str(number)) for number in range(layout.LINES + 1)]
    assert given == [*range(layout.LINES), None]
    board.release("7")
    assert board.assign("late") == 7
    board.release("was never there")


def test_nobody_can_change_its_size(board: Scoreboard[str]) -> None:
    """Who has mapped a page that is truncated gets SIGBUS."""
    board.assign("one")
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(board.fileno(), size)


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.__setitem__(slice(0, 8), b"elsewise"),
        lambda page: page.__setitem__(slice(8, 12), (2).to_bytes(4, "little")),
        lambda page: page.__setitem__(slice(12, 16), (128).to_bytes(4, "little")),
        lambda page: page.__setitem__(slice(16, 20), (1 << 20).to_bytes(4, "little")),
    ],
    ids=["magic", "version", "line", "lines"],
)
def test_another_layout_is_none_of_its(board: Scoreboard[str], change: object) -> None:
    """A worker of a newer package serves as one without siblings."""
    board.assign("one")
    with mmap.mmap(board.fileno(), 0) as page:
        change(page)  # type: ignore[operator]
    environment = {"MEMUNIT_SCOREBOARD": str(os.dup(board.fileno())), "MEMUNIT_SCOREBOARD_LINE": "0"}
    worker.take(environment)
    assert worker.place(environment) is None


@pytest.mark.parametrize("fd", ["", "x", "-1", "9999", "99999999999999999999"])
def test_without_a_page(fd: str) -> None:
    environment = {"MEMUNIT_SCOREBOARD": fd, "MEMUNIT_SCOREBOARD_LINE": "0"}
    worker.take(environment)
    place = worker.place(environment)
    assert place is None
    alone = Siblings(place)
    alone.publish(accepting=True, connections=1)
    alone.count(2, 1)
    assert alone.look() == (0, 0)
    assert alone.share((0, 0), 100, 7) == 7
    assert not alone.moved(alone.marks())
    alone.pass_over({})


@pytest.mark.parametrize("line", ["", "x", "-1", "1023", "99999999999999999999"])
def test_a_line_that_is_not_there(board: Scoreboard[str], line: str) -> None:
    board.assign("one")
    environment = {"MEMUNIT_SCOREBOARD": str(os.dup(board.fileno())), "MEMUNIT_SCOREBOARD_LINE": line}
    worker.take(environment)
    assert worker.place(environment) is None


@pytest.mark.parametrize(("count", "most"), [(2, 0.60), (4, 0.35)])
@pytest.mark.parametrize("total", [16, 64, 256])
@pytest.mark.parametrize("known", [True, False], ids=["told", "not told"])
def test_shares_of_a_burst(board: Scoreboard[str], count: int, most: float, total: int, known: bool) -> None:
    """However the workers take turns: nobody gets too many, all is taken."""
    rng = random.Random(total * count)
    workers = [joined(board, str(number)) for number in range(count)]
    for each in workers:
        each.publish(accepting=True, connections=0)
    has, waiting = [0] * count, total
    while waiting:
        # Any may be the only one that runs for a while; one that may not take any more waits.
        may = []
        for index, each in enumerate(workers):
            share = each.share(each.look(), has[index], waiting if known else 1)
            if share > 0:
                may.append((index, share))
        assert may
        index, share = rng.choice(may)
        taken = min(share, waiting, 4)
        waiting -= taken
        has[index] += taken
        workers[index].count(has[index], taken)
    assert max(has) / total <= most, has


def test_one_that_does_not_move_is_passed_over_until_it_does(board: Scoreboard[str]) -> None:
    one, two, three = (joined(board, name) for name in ("one", "two", "three"))
    for each in (one, two, three):
        each.publish(accepting=True, connections=0)
    marks = one.marks()
    assert not one.moved(marks)
    two.count(1, 1)
    assert one.moved(marks)
    one.pass_over(marks)
    assert one.look() == (1, 1)
    three.count(1, 1)
    assert one.look() == (2, 2)
    marks = one.marks()
    one.pass_over(marks)
    assert one.look() == (0, 0)
    assert one.share(one.look(), 50, 3) == 3


def test_of_many_siblings_some_are_looked_at_in_turn(board: Scoreboard[str]) -> None:
    """With each share about an even one of all that wait."""
    first = joined(board, "0")
    for number in range(1, 200):
        joined(board, str(number)).publish(accepting=True, connections=10)
    seen = [first.look() for _ in range(20)]
    assert set(seen) == {(16, 160)}
    assert 1 <= first.share(first.look(), 10, 40) <= 5
    assert first.share(first.look(), 13, 1) < 0


def test_any_rubbish_gives_a_number(board: Scoreboard[str]) -> None:
    rng = random.Random(1)
    one = joined(board, "one")
    joined(board, "two")
    with mmap.mmap(board.fileno(), 0) as page:
        for _ in range(2000):
            page[20:24] = rng.randbytes(4)
            page[64:1600] = rng.choice(
                (rng.randbytes(1536), b"\xff" * 1536, (b"\1\0\0\0" + b"\xff" * 60) * 24)
            )
            share = one.share(one.look(), rng.randrange(100), rng.randrange(100))
            assert isinstance(share, int)
            marks = one.marks()
            one.moved(marks)
            one.pass_over(marks)
            one.count(rng.randrange(1000), 1)
