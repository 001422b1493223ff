"""Exponential backoff with jitter, and the jitter itself. Pure: the same seed gives the same numbers."""

FIRST = 0.1
CAP = 30.0
SPREAD = 0.25
# Seconds for which a row of failures may be short-winded. Where each try takes long, doubling alone would need minutes.
# Well under a minute: after a failure at 58 s, systemd's start fell into the second minute, and the next one beside it.
SHORT = 45.0
_WORD = 2**64 - 1


def jitter(seed: int, *salt: int) -> float:
    """A number in [0, 1) fixed by the seed and the salt; spreads instances and workers, keeps no secret."""
    # hashlib would do as well, but brings OpenSSL into the master: four mebibytes for as long as it lives.
    mixed = 0
    for number in (seed, *salt):
        mixed = _mix((mixed ^ number) & _WORD)
    return (mixed >> 11) / 2**53


def _mix(word: int) -> int:
    """One step of SplitMix64 (Steele, Lea, Flood 2014): each bit of `word` changes half of the result's."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def delay(failures: int, *, seed: int, slot: int, lasted: float = 0.0) -> float:
    """Seconds to wait after so many failures in a row: none after the first, then 0.1 s doubling up to 30 s.

    30 s as well after a row that has `lasted` SHORT seconds. Jitter only lengthens, so that a full backoff is never
    more than two tries a minute.
    """
    if failures <= 1:
        return 0.0
    doubled = CAP if lasted >= SHORT else FIRST * float(2 ** min(failures - 2, 16))
    return min(CAP, doubled) * (1 + SPREAD * jitter(seed, slot, failures))
