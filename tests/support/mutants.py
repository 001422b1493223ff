"""Messages that nobody has thought of: good ones and pieces of them, cut, doubled and mixed."""

import random
from collections.abc import Sequence

# Of JSON, as varlink has it.
JSON = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\0", b"\xff", b"\\u0000", b"\\ud800", b"null", b"true", b"1e999",
    b"-0", b"1" * 400, b"NaN", b"Infinity", b" ", b"\n", b'"method"', b'"parameters"', b'"more"', b'"oneway"',
    b'"upgrade"', b'"io.memunit.Instance.Workers"', b'{"slot":1}', b"[[[[[[[[[[[[[[[[[[", b'{"a":' * 20,
]  # fmt: skip


def mutant(number: int, seeds: Sequence[bytes], pieces: Sequence[bytes] = JSON) -> bytes:
    """The bytes of this number, of some of the seeds; always the same."""
    rng = random.Random(number)
    data = bytearray(b"".join(rng.choice(seeds) for _ in range(rng.randint(1, 3))))
    mangle(data, rng, pieces, rng.randint(1, 5))
    return bytes(data)


def mangle(data: bytearray, rng: random.Random, pieces: Sequence[bytes], times: int) -> None:
    """Insert a piece, cut something out, replace a byte or double something, so many times."""
    for _ in range(times):
        place = rng.randint(0, len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[place:place] = rng.choice(pieces)
        elif kind == 1:
            del data[place : place + rng.choice((1, 1, 4, 16, 64))]
        elif kind == 2 and data:
            data[min(place, len(data) - 1)] = rng.randrange(256)
        else:
            data[place:place] = data[place : place + rng.choice((1, 8, 64))] * rng.randint(1, 40)
