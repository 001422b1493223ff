"""Real workers that leak by one route: their notes name it, or nobody. MEMUNIT_RUNS=40 is the long form."""

from __future__ import annotations

import os
import random
import threading

import pytest

from tests.support.harness import Unit

pytest_plugins = ["tests.support.units"]

RUNS = int(os.environ.get("MEMUNIT_RUNS", "2"))
NOTES = 40
ROUTES = ("/", "/list", "/product/{}", "/search", "/cart", "/rare/{}")
RATES = (6, 4, 3, 3, 2, 0.3)


def serve_one(unit: Unit, seed: int, *, threads: int = 1) -> None:
    """What happens between two notes, by so many clients at once."""
    chance = random.Random(seed)
    paths = []
    for route, rate in zip(ROUTES, RATES, strict=True):
        paths += [route.replace("{}", str(chance.randrange(10**6)))] * round(chance.expovariate(1 / rate))
    chance.shuffle(paths)

    def ask(part: list[str]) -> None:
        with unit.client() as client:
            for path in part:
                assert client.get(path).status == 200

    running = [threading.Thread(target=ask, args=(paths[number::threads],)) for number in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()


def blamed(unit: Unit, seed: int) -> str:
    """Whom a worker's notes blame."""
    service = unit.serve().ready()
    for number in range(NOTES):
        serve_one(unit, 1000 * seed + number, threads=3)
        unit.get("/noted")
    said = unit.get("/noted?say=1")
    assert service.stop() == 0
    return said.rpartition(" ")[0] or said


@pytest.mark.parametrize(("server", "run"), [("asgi", "leaking:app"), ("wsgi", "leaking:wsgi")])
@pytest.mark.parametrize(
    ("leaks", "size", "named"),
    [
        ("/list", 96 << 10, "GET /list"),
        ("/product", 128 << 10, "GET /product/{}"),
        ("/rare", 2 << 20, "GET /rare/{}"),
        ("/nothing", 64 << 10, "nobody"),
    ],
)
def test_the_route_that_leaks_is_named(
    unit: Unit, server: str, run: str, leaks: str, size: int, named: str
) -> None:
    environment = {"LEAKS": leaks, "SIZE": str(size)}
    unit.write(
        app={"run": run, "server": server, "environment": environment},
        workers={"count": 1},
        memory={"limit": "infinity"},
    )
    said = [blamed(unit, seed) for seed in range(RUNS)]
    assert set(said) <= {named, "nobody"}, said
    assert said.count(named) >= int(0.95 * RUNS), said
