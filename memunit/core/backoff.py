"""Exponential backoff with jitter, and the jitter itself. Pure: the same seed gives the same numbers."""

import hashlib

FIRST = 0.1
CAP = 30.0
SPREAD = 0.25


def jitter(seed: int, *salt: int) -> float:
    """A number in [0, 1) fixed by the seed and the salt; spreads instances and workers, keeps no secret."""
    text = ",".join(map(str, (seed, *salt))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 2**32


def delay(failures: int, *, seed: int, slot: int) -> float:
    """Seconds to wait after so many failures in a row: none after the first, then 0.1 s doubling up to 30 s.

    Jitter only lengthens, so that a full backoff is never more than two tries a minute.
    """
    if failures <= 1:
        return 0.0
    doubled = FIRST * float(2 ** min(failures - 2, 16))
    return min(CAP, doubled) * (1 + SPREAD * jitter(seed, slot, failures))
