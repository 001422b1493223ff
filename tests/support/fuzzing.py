"""Requests that grow out of the corpus, by a seeded generator, and two judges of what memunit lets pass.

The judges are h11, all by itself and with bodies and all, and the same connection under the other reader and in other
pieces. A mutant is named by its number: mutant(N) is always the same bytes.
"""

from __future__ import annotations

import random
import time
from typing import Any

import h11

from tests.support.corpus import CASES
from tests.support.verdicts import Bench

_SMALL = [case.sent for case in CASES if len(case.sent) < 600]
_PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b":", b";", b",", b"0", b"1", b"5", b"a", b"\x80",
    b"\xff", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:", b"chunked", b"identity", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"Host: a\r\n",
    b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\n", b"HTTP/1.0", b" HTTP/1.1", b"HTTP/2.0",
    b"X-A: 1\r\n", b"X-A: 1\r\n 2\r\n", b"X-A : 1\r\n",
    b"ffffffffffffffff", b"00000000000000005", b"-", b"+", b"0x", b"_", b"\"",
]  # fmt: skip


def mutant(number: int) -> bytes:
    """The bytes of this name."""
    rng = random.Random(number)
    data = bytearray(b"".join(rng.choice(_SMALL) for _ in range(rng.randint(1, 3))))
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(data))
        end = min(len(data), place + rng.choice((1, 1, 1, 2, 4, 16)))
        kind = rng.randrange(6)
        if kind == 0:
            data[place:place] = rng.choice(_PIECES)
        elif kind == 1:
            data[place:end] = rng.choice(_PIECES)
        elif kind == 2:
            del data[place:end]
        elif kind == 3 and data:
            data[min(place, len(data) - 1)] = rng.randrange(256)
        elif kind == 4:
            data[place:place] = data[place:end] * rng.randint(1, 3)
        else:
            lines = bytes(data).split(b"\r\n")
            one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def read_by_h11(sent: bytes) -> list[str]:
    """The requests that are whole in `sent`, as h11 reads it: "METHOD target body", up to what it refuses."""
    found: list[str] = []
    rest = sent
    while True:
        while rest.startswith(b"\r\n"):
            rest = rest[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(rest)
        request, body, ended = None, b"", False
        try:
            while not ended:
                event: Any = connection.next_event()
                if event is h11.PAUSED and request is not None:  # it offers an upgrade: nobody takes it
                    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                elif type(event) is h11.Request:
                    request = event
                elif type(event) is h11.Data:
                    body += bytes(event.data)
                elif type(event) is h11.EndOfMessage:
                    ended = True
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert request is not None
        target = bytes(request.target).decode("latin-1")
        found.append(f"{request.method.decode()} {target}" + (f" {body.decode('latin-1')}" if body else ""))
        options = [token.strip().lower() for _, value in _connection(request) for token in value.split(b",")]
        if b"close" in options or request.http_version == b"1.0":
            return found
        rest = bytes(connection.trailing_data[0])


def _connection(request: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in request.headers if name == b"connection"]


async def fuzz(*, mutants: int, seconds: float = 0.0, first: int = 0) -> list[str]:
    """Judge so many mutants, or for so many seconds if that is more than 0; what is wrong."""
    benches = [Bench("httptools"), Bench("h11")]
    until = time.monotonic() + seconds
    found: list[str] = []
    number = first
    while (time.monotonic() < until if seconds else number < first + mutants) and len(found) < 20:
        sent = mutant(number)
        place = number % (len(sent) + 1)
        cuts = ([sent], [sent[:place], sent[place:]], [sent[at : at + 1] for at in range(len(sent))])
        verdicts = [
            await bench.verdict([piece for piece in pieces if piece])
            for bench, pieces in zip((*benches, benches[number % 2]), cuts, strict=True)
        ]
        if len(set(verdicts)) > 1:
            found.append(f"mutant {number}, {sent!r}: {verdicts}")
        seen = list(verdicts[0][0])
        by_h11 = read_by_h11(sent)
        if [_without_host(request) for request in seen] != [
            _without_host(each) for each in by_h11[: len(seen)]
        ]:
            found.append(f"mutant {number}, {sent!r}: {seen}, and h11 reads {by_h11}")
        number += 1
    if seconds:
        print(f"{number - first} mutants")
    return found


def _without_host(request: str) -> str:
    """The absolute form and the origin form are one, and so are an empty query and none."""
    method, _, rest = request.partition(" ")
    target, blank, body = rest.partition(" ")
    if target.lower().startswith(("http://", "https://")):
        target = target.partition("://")[2]
        place = min((at for at in (target.find("/"), target.find("?")) if at >= 0), default=len(target))
        target = target[place:] if target[place:].startswith("/") else "/" + target[place:]
    return f"{method} {target.removesuffix('?')}{blank}{body}"
