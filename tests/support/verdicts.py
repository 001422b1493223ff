"""The corpus against memunit's HTTP in one process: `python -m tests.support.verdicts READER`, in any interpreter.

READER is httptools or h11. The bytes go to Connection.data_received() in every pair of pieces and one by one, which no
socket would keep apart. Prints what differs from the corpus, and exits with 1 if anything does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from memunit.worker import httpparse
from memunit.worker.bounds import Bounds
from memunit.worker.connection import Connection
from memunit.worker.httpserver import Connections, HttpServer
from tests.support.corpus import CASES, Case

_LONG = 2000  # bytes: what is longer is cut at a few places alone, and not sent byte by byte
_FEW = 20
_ROUNDS = 12  # of the loop: a request takes at most two, and there are at most four of them in a case


class Transport:
    """Of asyncio's, what Connection uses: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.reading = asyncio.Event()
        self.reading.set()

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.closed
        self.written += data

    def close(self) -> None:
        """The end."""
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        """As a socket."""
        return True

    def is_closing(self) -> bool:
        """After close()."""
        return self.closed

    def pause_reading(self) -> None:
        """From now on nothing comes."""
        self.reading.clear()

    def resume_reading(self) -> None:
        """Now it does."""
        self.reading.set()

    def get_extra_info(self, name: str) -> Any:
        """A connection of two addresses, without a socket."""
        return {"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)}.get(name)

    def get_write_buffer_size(self) -> int:
        """All that is written has gone."""
        return 0


class Bench:
    """Connections of one server, whose app reads each request to its end and remembers it."""

    def __init__(self, reader: str) -> None:
        self._seen: list[str] = []
        self.server = HttpServer(self._app, httpparse.reader(reader), Bounds(), connections=Connections())
        self.server.logger.disabled = True

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        said = f"{scope['method']} {target.decode()}" + (f" {body.decode('latin-1')}" if body else "")
        self._seen.append(said)
        names = [name for name, _ in scope["headers"]]
        assert names.count(b"host") <= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def verdict(self, pieces: Iterable[bytes]) -> tuple[tuple[str, ...], int, bool]:
        """What comes of it, as a Case has it: requests seen, status of the refusal, and whether it ends."""
        self._seen = []
        transport = Transport()
        connection = Connection(self.server)
        connection.connection_made(transport)
        for piece in pieces:
            if transport.closed:
                break
            await transport.reading.wait()
            connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        seen = tuple(self._seen)
        statuses = [int(found) for found in re.findall(rb"HTTP/1.1 (\d\d\d) ", transport.written)]
        refusals = [status for status in statuses if status >= 400]
        assert len(refusals) <= 1
        assert statuses.count(200) == len(seen), (statuses, seen)
        ends = transport.closed
        connection.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not self.server.cycles
        return seen, refusals[0] if refusals else 0, ends


def cuts(case: Case) -> Iterator[tuple[str, list[bytes]]]:
    """The ways to cut it, each with a name."""
    sent = case.sent
    yield "whole", [sent] if sent else []
    long = len(sent) > _LONG
    if not long:
        yield "byte by byte", [sent[place : place + 1] for place in range(len(sent))]
    for place in range(1, len(sent), len(sent) // _FEW if long else 1):
        yield f"at {place}", [sent[:place], sent[place:]]


async def differences(reader: str) -> list[str]:
    """What gets another verdict than the corpus says."""
    bench = Bench(reader)
    found = []
    for case in CASES:
        wanted = (case.seen, case.status, case.ends)
        for name, pieces in cuts(case):
            verdict = await bench.verdict(pieces)
            if verdict != wanted:
                found.append(f"{case.name!r}, cut {name}: {str(verdict)[:300]} and not {str(wanted)[:300]}")
                break
    return found


def main() -> int:
    """The command line; see the module."""
    found = asyncio.run(differences(sys.argv[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
