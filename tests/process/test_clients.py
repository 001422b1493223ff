"""The connections of the interface by themselves: what a client that does not read costs, and when it is let go."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from memunit.core import varlink
from memunit.core.model import Policy
from memunit.core.state import State, initial
from memunit.core.varlink import Frames
from memunit.master import clients as clients_module
from memunit.master import followers as followers_module
from memunit.master.clients import Clients
from memunit.master.dumps import Dumps
from memunit.master.interface import Interface
from memunit.master.spawn import open_descriptors
from tests.support.wait import DEADLINE, wait_readable

# More than any socket buffers.
JAM = b"x" * (8 << 20) + b"\0"


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    before = open_descriptors()
    made = Clients(str(tmp_path / "private" / "io.memunit.Instance"), Frames)
    yield made
    made.close()
    made.close()
    assert not Path(made.path).exists()
    assert open_descriptors() == before


def connected(clients: Clients) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(clients.path)
    made.settimeout(DEADLINE)
    return made


def messages(clients: Clients) -> list[tuple[int, bytes]]:
    """The next ones that come."""
    while True:
        wait_readable(clients.fileno())
        found = clients.messages()
        if found:
            return found


def test_an_answer_that_is_not_read_keeps_the_next_message_waiting(clients: Clients) -> None:
    with connected(clients) as client:
        client.sendall(b"one\0two\0")
        ((token, message),) = messages(clients)
        assert message == b"one"
        clients.send(token, JAM)
        clients.ready(token)
        # Neither what had come with it nor what comes now is taken until the answer is.
        client.sendall(b"three\0")
        assert clients.messages() == []
        assert clients.backlog(token) > 0
        taken, found = 0, []
        while taken < len(JAM):
            taken += len(client.recv(1 << 20))
            found += clients.messages()
        found = found or clients.messages()
        assert found == [(token, b"two")]
        clients.ready(token)
        assert messages(clients) == [(token, b"three")]


def test_who_takes_nothing_is_let_go(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(clients) as client, connected(clients) as other:
        client.sendall(b"one\0")
        ((token, _),) = messages(clients)
        clients.send(token, JAM)
        assert clients.messages() == []
        assert clients.due < float("inf")
        monkeypatch.setattr(clients_module, "PATIENCE", 0.0)
        assert clients.messages() == []
        assert clients.peer(token) is None
        assert len(clients) == 1
        other.sendall(b"two\0")
        assert messages(clients)[0][1] == b"two"


def follower(interface: Interface, clients: Clients, state: State, client: socket.socket) -> dict[str, Any]:
    """Begin to follow; the first reply."""
    client.sendall(varlink.call("io.memunit.Instance.Follow", more=True))
    wait_readable(clients.fileno())
    interface.facts({clients.fileno()}, state)
    interface.facts({clients.fileno()}, state)
    return reply(client)


def reply(client: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\0"):
        data += client.recv(1 << 20)
    return cast("dict[str, Any]", json.loads(data[:-1])["parameters"])


def test_who_follows_and_does_not_read_is_told_what_it_has_missed(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_module, "REST", 0.0)
    setting: Any = SimpleNamespace(instance="app")
    report: Any = SimpleNamespace()
    interface = Interface(setting, clients, Dumps(), report)
    state = initial(Policy(count=2), now=5.0)

    def change(trouble: str) -> None:
        state.trouble = trouble
        interface.finished_pass(state, news=True)

    with connected(clients) as client:
        assert follower(interface, clients, state, client)["missed"] == 0
        change("one")
        assert reply(client)["instance"]["trouble"] == "one"
        # The same again is no news.
        change("one")
        clients.send(1, JAM)
        change("two")
        change("three")
        taken = 0
        while taken < len(JAM):
            taken += len(client.recv(1 << 20))
            interface.facts({clients.fileno()}, state)
        change("four")
        told = reply(client)
        assert (told["instance"]["trouble"], told["missed"]) == ("four", 2)
        change("five")
        assert reply(client)["missed"] == 0
