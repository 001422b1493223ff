"""LISTEN_FDS as a worker reads it; the rest of it is in the process tests."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import memunit.worker
from memunit.worker import inherited, options
from memunit.worker.problem import Unusable

WORKER = Path(memunit.worker.__file__).parent
OWN = str(os.getpid())


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "", "LISTEN_PID": OWN},
        {"LISTEN_FDS": "-1", "LISTEN_PID": OWN},
        {"LISTEN_FDS": "0", "LISTEN_PID": OWN},
        {"LISTEN_FDS": "x", "LISTEN_PID": OWN, "LISTEN_FDNAMES": "a"},
    ],
)
def test_nothing_for_us(environment: dict[str, str]) -> None:
    """And nothing is left for children to take for theirs."""
    assert inherited.take(environment) == []
    assert environment == {}


def test_descriptor_that_is_not_open() -> None:
    with pytest.raises(Unusable, match=r"descriptor \d+ of LISTEN_FDS=10000 is not open"):
        inherited.take({"LISTEN_FDS": "10000", "LISTEN_PID": OWN})


def test_fifo_is_no_socket() -> None:
    read, write = os.pipe()
    with pytest.raises(Unusable, match=r"descriptor \d+ \(a\) is a FIFO"):
        inherited.open_socket(inherited.Inherited("a", read))
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("path", sorted(WORKER.glob("*.py")), ids=lambda path: path.name)
def test_runs_on_3_9(path: Path) -> None:
    """In syntax; and the package imports nothing of memunit outside itself."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memunit"):
            assert node.module is not None
            assert node.module.startswith("memunit.worker")


def _config(
    app: object, log_level: str, access_log: bool, timeout_keep_alive: int, proxy_headers: bool
) -> None:
    """The shape of a Config that does not know ws_max_queue."""


def test_options() -> None:
    quiet = {"log_level": "warning", "access_log": False}
    assert options.read({}, _config) == quiet
    given = {
        "UVICORN_TIMEOUT_KEEP_ALIVE": "75",
        "UVICORN_PROXY_HEADERS": "No",
        "UVICORN_LOG_LEVEL": "info",
        "UVICORN_ACCESS_LOG": "1",
        "UVICORN_WS_MAX_QUEUE": "5",
        "UVICORN_PORT": "99",
        "UVICORN_RELOAD": "1",
    }
    assert options.read(given, _config) == {
        "log_level": "info",
        "access_log": True,
        "timeout_keep_alive": 75,
        "proxy_headers": False,
    }


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("nope"), "UVICORN_HTTP=nope: KeyError: 'nope'"),
        (
            ValueError('Import string "nope" must be in format "<module>:<attribute>".'),
            'UVICORN_HTTP=nope: ValueError: Import string "nope" must be in format "<module>:<attribute>".',
        ),
        (
            ModuleNotFoundError("No module named 'mine'"),
            "UVICORN_WS=mine:Protocol: ModuleNotFoundError: No module",
        ),
        (KeyError(), "what it was given: KeyError"),
    ],
)
def test_what_uvicorn_refuses(error: Exception, told: str) -> None:
    """The variable at fault, and no other: there may be secrets among them."""
    chosen = {"http": "nope", "ws": "mine:Protocol", "access_log": False}
    refused = options.refused(chosen, error)
    assert str(refused).startswith(f"uvicorn refuses {told}")
    assert (refused.cause is None) == ("UVICORN_" in told)


@pytest.mark.parametrize("given", [{"UVICORN_TIMEOUT_KEEP_ALIVE": "-1"}, {"UVICORN_ACCESS_LOG": "maybe"}])
def test_bad_options(given: dict[str, str]) -> None:
    with pytest.raises(Unusable, match=next(iter(given))):
        options.read(given, _config)
