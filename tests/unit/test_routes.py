"""Which route leaks: 40 runs of each kind of series, whatever stands in the notes, and how they are kept."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.worker import routes
from memunit.worker.nonnegative import remainder, solve
from memunit.worker.routes import Note, Notes, of_rows
from tests.support.leaks import K, M, Worker, zipf

RUNS = 40
TWELVE = zipf(12, 40)
THREE = [20.0, 10.0, 20.0]
ALIKE = {0: 60.0 * K, 2: 60.0 * K}


def found(worker: Worker) -> list[int | None]:
    """The route that is named, of each run."""
    said = [of_rows(worker.run(seed)) for seed in range(RUNS)]
    return [None if each is None else each[0] for each in said]


@pytest.mark.parametrize(
    ("leaking", "worker"),
    [
        pytest.param(0, Worker(TWELVE, leaks={0: 24 * K}), id="often and little"),
        pytest.param(11, Worker(TWELVE, leaks={11: 2 * M}), id="rarely and much"),
        pytest.param(5, Worker(TWELVE, leaks={5: 300 * K}), id="neither"),
        pytest.param(1, Worker(zipf(2, 20), leaks={1: 200 * K}), id="two routes"),
        pytest.param(7, Worker(zipf(60, 100), leaks={7: 300 * K}), id="sixty routes"),
        pytest.param(4, Worker(TWELVE, leaks={4: 300 * K}, waves=0), id="even traffic"),
        pytest.param(2, Worker(TWELVE, leaks={2: 200 * K}, walk=200 * K), id="a memory that drifts"),
        pytest.param(1, Worker(TWELVE, leaks={1: 100 * K, 6: 40 * K}), id="beside a smaller leak"),
    ],
)
def test_it_is_named(leaking: int, worker: Worker) -> None:
    said = found(worker)
    assert {each for each in said if each is not None} == {leaking}
    assert said.count(leaking) >= 0.95 * RUNS


@pytest.mark.parametrize(
    ("may_be_named", "worker"),
    [
        pytest.param((), Worker(TWELVE), id="no leak"),
        pytest.param((), Worker(TWELVE, walk=400 * K), id="no leak, a memory that drifts"),
        pytest.param((), Worker(TWELVE, background=600 * K), id="a leak that no request makes"),
        pytest.param((), Worker(TWELVE, leaks=dict.fromkeys(range(12), 15.0 * K)), id="all requests"),
        pytest.param((), Worker(TWELVE, cache=(2, 60 * M, 200 * K)), id="a bounded cache"),
        pytest.param((0, 3), Worker(TWELVE, leaks={0: 40 * K}, shadow=(0, 3)), id="two that come together"),
        pytest.param((), Worker(THREE, notes=83, leaks=ALIKE), id="two that leak alike"),
        pytest.param(
            (), Worker(THREE, notes=83, leaks=ALIKE, sometimes=0.3), id="two that leak alike by chance"
        ),
        pytest.param(
            (), Worker([20, 20], notes=83, leaks={0: 60 * K, 1: 60 * K}, sometimes=0.1), id="all by chance"
        ),
        pytest.param((2,), Worker(TWELVE, leaks={2: 200 * K}, garbage=8 * M), id="much garbage"),
        pytest.param((1,), Worker(TWELVE, leaks={1: 200 * K}, sometimes=0.1), id="one request in ten"),
        pytest.param((3,), Worker(TWELVE, notes=40, leaks={3: 600 * K}), id="few notes"),
    ],
)
def test_no_other_is_named(may_be_named: tuple[int, ...], worker: Worker) -> None:
    """That it can't be said is an answer; a wrong name is none."""
    assert {each for each in found(worker) if each is not None} <= set(may_be_named)


def test_the_share_is_that_of_the_growth() -> None:
    rows = Worker(TWELVE, leaks={5: 400 * K}, warm=0, garbage=0).run(1)
    named = of_rows(rows)
    assert named is not None
    assert named[1] > 0.95
    held = rows[-1].memory - rows[0].memory
    # Somebody else has measured twice as much.
    other = of_rows(rows, 2 * held)
    assert other is None or other[1] < 0.55
    assert of_rows(Worker(TWELVE, leaks={5: 400 * K}, warm=0).run(1), int(1.2 * held)) is not None


number = st.integers(0, 1 << 63)
row = st.builds(Note, st.floats(0, 1e9), number, st.lists(number, min_size=4, max_size=4))


@given(st.lists(row, max_size=40), st.integers(-1, 1 << 62))
def test_whatever_was_noted_has_an_answer(rows: list[Note], growth: int) -> None:
    """An app can write into its own memory what it likes."""
    said = of_rows(rows, growth)
    assert said is None or (0 <= said[0] < 3 and 0 <= said[1] <= 1 and 0 <= said[2] <= 1)


@given(st.integers(1, 12), st.integers(0, 1 << 32))
def test_the_parts_are_the_best_that_are_not_negative(count: int, seed: int) -> None:
    """By the conditions of Karush, Kuhn and Tucker."""
    chance = random.Random(seed)
    columns = [[chance.gauss(0, 1) for _ in range(20)] for _ in range(count)]
    wanted = [chance.gauss(0, 1) for _ in range(20)]
    norms = [math.hypot(*column) for column in columns]
    columns = [[value / norm for value in column] for column, norm in zip(columns, norms, strict=True)]
    gram = [
        [math.sumprod(a, b) if hasattr(math, "sumprod") else _product(a, b) for b in columns] for a in columns
    ]
    right = [_product(column, wanted) for column in columns]
    parts = solve(gram, right)
    assert min(parts) >= 0
    slopes = [right[i] - _product(gram[i], parts) for i in range(count)]
    for part, slope in zip(parts, slopes, strict=True):
        assert slope <= 1e-6
        assert part == 0 or abs(slope) < 1e-6
    left = [
        each - sum(part * column[at] for part, column in zip(parts, columns, strict=True))
        for at, each in enumerate(wanted)
    ]
    assert math.isclose(
        remainder(_product(wanted, wanted), gram, right, parts), _product(left, left), abs_tol=1e-6
    )


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


class Clock:
    """A worker's counts, memory and time, as the test says."""

    def __init__(self) -> None:
        self.at, self.memory, self.counts = 0.0, 50 * M, [0] * 129
        self.notes = Notes(lambda: list(self.counts), str, lambda: self.memory, lambda: self.at)

    def second(self, route: int, count: int = 1) -> None:
        self.at += 1
        self.counts[route] += count
        self.notes.look()


def test_notes_are_thinned_and_not_cut_off() -> None:
    clock = Clock()
    for _ in range(10_000):
        clock.second(3)
    rows = clock.notes.rows
    assert 0.4 * routes.MOST <= len(rows) <= routes.MOST
    assert rows[0].at == 1.0
    assert rows[-1].at > 9_900
    gaps = {round(b.at - a.at) for a, b in pairwise(rows)}
    assert len(gaps) == 1


def test_without_requests_nothing_is_noted() -> None:
    clock = Clock()
    clock.second(0)
    for _ in range(100):
        clock.second(0, 0)
    assert len(clock.notes.rows) == 1


def test_notes_know_of_routes_that_came_later() -> None:
    clock = Clock()
    for second in range(60):
        clock.second(second // 30)
        clock.memory += (second // 30) * M
    clock.counts[128] += 5
    clock.second(70)
    assert {len(row.done) for row in clock.notes.rows} == {72}
    assert clock.notes.rows[-1].done[:2] == clock.notes.rows[-1].done[:2]
    assert clock.notes.rows[-1].done[-1] == 5


def test_a_worker_blames_by_name() -> None:
    clock = Clock()
    chance = random.Random(3)
    for _ in range(200):
        for route in range(4):
            count = chance.randrange(6)
            clock.counts[route] += count
            clock.memory += count * 256 * K * (route == 2)
        clock.second(0)
    named = routes.blame(clock.notes)
    assert named is not None
    assert named.route == "2"
    assert named.share > 0.9


def test_this_process_holds_memory() -> None:
    before = routes.own_memory()
    kept = bytearray(64 * M)
    kept[::4096] = b"x" * len(kept[::4096])
    assert routes.own_memory() - before > 60 * M
