"""Requests in work, written by a worker and read by the master."""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.core import board as layout
from memunit.core.paths import fold
from memunit.worker import board, work

PAGES = 150
SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))


class Desk:
    """A page, what writes on it, and what the master reads."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, layout.SIZE)
        self.memory[: len(layout.header())] = layout.header()
        self.work = work.of(board.Page(self.memory))

    def read(self) -> layout.Board:
        found = layout.parse(self.memory[:])
        assert found is not None
        return found

    def begin(self, path: str, method: str = "GET") -> Callable[..., None]:
        """What ends the request."""
        raw = path.encode()
        request = self.work.begin(method, raw)

        def end(named: str | None = None, status: int = 200) -> None:
            if not self.work.end(request):
                self.work.end_unknown(request, method, raw, named, status)

        return end

    def ask(self, path: str, method: str = "GET", named: str | None = None, status: int = 200) -> None:
        self.begin(path, method)(named, status)

    @property
    def routes(self) -> dict[str, int]:
        return dict(self.read().routes)


def test_what_is_in_work_is_there_until_it_is_done() -> None:
    desk = Desk()
    before = time.monotonic()
    slow = desk.begin("/report/77")
    quick = desk.begin("/")
    longest, other = desk.read().in_work
    assert (longest.route, other.route) == ("GET /report/{}", "GET /")
    assert before <= longest.begun <= other.begun <= time.monotonic()
    quick()
    assert [each.route for each in desk.read().in_work] == ["GET /report/{}"]
    slow()
    assert desk.read().in_work == ()
    assert desk.read().served == 2
    assert desk.routes == {"GET /": 1, "GET /report/{}": 1}


def test_the_second_of_a_route_has_its_name_from_the_beginning() -> None:
    desk = Desk()
    desk.ask("/product/red-shoes", named="/product/{slug}")
    desk.begin("/product/red-shoes")
    assert [each.route for each in desk.read().in_work] == ["GET /product/{slug}"]


@pytest.mark.parametrize(
    "paths",
    [
        ("/product/1", "/product/22", "/product/"),
        ("/v1/a/1/b", "/v1/a/2/b", "/v2/a/1/b"),
        ("/v1", "/v2", "/v"),
        ("/page2", "/page", "/page3"),
        ("/a/1/b", "/a/2/b", "/a/x/b"),
        ("/api/v1/x/5", "/api/v2/x/6", "/api/v1/x/7"),
        ("/1/2/3", "/4/5/6", "/4/5/a6"),
        ("/o/a1/b2/7", "/o/a2/b2/7", "/o/a1/b3/7"),
    ],
)
def test_paths_that_only_look_alike_stay_apart(paths: tuple[str, ...]) -> None:
    desk = Desk()
    for path in paths * 3:
        desk.ask(path)
    expected: dict[str, int] = {}
    for path in paths * 3:
        name = f"GET {fold(path)}"
        expected[name] = expected.get(name, 0) + 1
    assert desk.routes == expected


segment = st.one_of(
    st.sampled_from(["a", "v1", "v2", "product", "x9y", "", "1", "22", "333"]),
    st.text("ab12-", max_size=6),
    st.uuids().map(str),
)
path = st.lists(segment, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST", "BREW"]), path), max_size=60))
def test_each_request_counts_for_its_own_route(asked: list[tuple[str, str]]) -> None:
    desk = Desk()
    expected: dict[str, int] = {}
    for method, where in asked * 2:
        desk.ask(where, method)
        name = f"{'OTHER' if method == 'BREW' else method} {fold(where)}"
        # As long as a name may be.
        expected[name[:120].strip()] = expected.get(name[:120].strip(), 0) + 1
    assert desk.routes == expected
    assert desk.read().in_work == ()


@given(st.text(max_size=300))
def test_both_halves_fold_alike(text: str) -> None:
    assert fold(text) == work.fold(text.partition("?")[0])


@pytest.mark.parametrize(
    ("path", "folded"),
    [
        ("/", "/"),
        ("/product/1234/reviews", "/product/{}/reviews"),
        ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/{}"),
        ("/blob/d41d8cd98f00b204e9800998ecf8427e", "/blob/{}"),
        ("/c/deadbeef/facade", "/c/deadbeef/facade"),
        ("/c/dead10cc", "/c/{}"),
        ("/reset/Zm9vYmFyYmF6cXV4MTIzNDU2", "/reset/{}"),
        ("/api/v1/users", "/api/v1/users"),
        ("/how-to-make-a-cup-of-tea", "/how-to-make-a-cup-of-tea"),
        ("/search?q=secret", "/search"),
    ],
)
def test_folding(path: str, folded: str) -> None:
    assert fold(path) == folded


def test_there_are_128_names_and_one_for_the_rest() -> None:
    desk = Desk()
    for number in range(200):
        desk.ask("/" + "x" * (number % 20) + chr(97 + number // 20))
    assert len(desk.read().routes) == layout.ROUTES
    assert desk.read().others == 72
    assert desk.read().served == 200


def test_a_scanner_takes_no_names() -> None:
    desk = Desk()
    for status in (400, 404, 405, 410, 501):
        desk.ask(f"/wp-{status}.php", status=status)
    desk.ask("/shop", status=200)
    desk.ask("/broken", status=0)
    assert desk.routes == {"GET /shop": 1, "GET /broken": 1}
    assert desk.read().others == 5


def test_more_than_64_at_once_are_counted() -> None:
    desk = Desk()
    ends = [desk.begin("/") for _ in range(70)]
    assert (len(desk.read().in_work), desk.read().unlisted) == (64, 6)
    for end in ends:
        end()
    assert (len(desk.read().in_work), desk.read().unlisted) == (0, 0)
    assert desk.read().served == 70


def test_many_paths_cost_no_more_memory() -> None:
    desk = Desk()
    for number in range(5000):
        desk.ask(
            f"/{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number // 676)}", named="/{slug}"
        )
    assert desk.routes == {"GET /{slug}": 5000}
    routes = desk.work.name.__self__  # type: ignore[attr-defined]
    assert sum(len(each) for paths in routes.paths.values() for each in paths) <= 512


def test_a_page_full_of_rubbish_stops_no_worker() -> None:
    desk = Desk()
    desk.memory[256:] = b"\xff" * (layout.SIZE - 256)
    end = desk.begin("/")
    end()
    desk.ask("/x/1")


def test_a_glance_tells_the_same() -> None:
    desk = Desk()
    assert layout.glance(bytes(layout.REPORT)) is None
    assert layout.glance(desk.memory[: layout.REPORT]) == layout.Glance(0, 0, None)
    desk.ask("/known/1")
    ends = [desk.begin("/known/2"), *(desk.begin("/") for _ in range(70))]
    whole, glance = desk.read(), layout.glance(desk.memory[: layout.REPORT])
    assert glance == layout.Glance(1, 71, whole.in_work[0])
    assert whole.in_work[0].route == "GET /known/{}"
    ends[0]()
    assert layout.glance(desk.memory[: layout.REPORT]) == layout.Glance(2, 70, desk.read().in_work[0])


def scribble(memory: mmap.mmap, chance: random.Random) -> None:
    """What an app may do to the page of its worker; the header stays, or nobody reads on."""
    begin = len(layout.header())
    for _ in range(chance.randint(1, 40)):
        place = chance.choice(
            (layout.UNLISTED, layout.COUNTS, layout.IN_WORK, layout.NAMES, layout.REPORT, begin)
        )
        place = max(begin, min(place + chance.randrange(9000), layout.SIZE - 1))
        data = chance.choice((b"\xff", b"\0", b"\x80", bytes([chance.randrange(256)]))) * chance.choice(
            (1, 4, 8, 200)
        )
        memory[place : place + len(data)] = data[: layout.SIZE - place]


def test_whatever_an_app_scribbles_is_read_and_written_on() -> None:
    """MEMUNIT_FUZZ=300 tests/run unit -- -k scribbles is the long form: five minutes."""
    begin, number = time.monotonic(), int(os.environ.get("MEMUNIT_SEED", "0"))
    last = number + PAGES
    while number < last or time.monotonic() - begin < SECONDS:
        chance, desk = random.Random(number), Desk()
        number += 1
        for _ in range(4):
            end = desk.begin(chance.choice(("/a/1", "/b", "/" + chance.choice("abc") * 300)))
            scribble(desk.memory, chance)
            end(chance.choice((None, "/named/{id}")), chance.choice((0, 200, 404)))
            whole, glance = desk.read(), layout.glance(desk.memory[: layout.REPORT])
            assert glance is not None
            assert glance.in_work == len(whole.in_work) + whole.unlisted, number - 1
            told = [each.route for each in whole.in_work] + [name for name, _ in whole.routes]
            assert all(name.isprintable() and len(name) <= 120 for name in told), number - 1
