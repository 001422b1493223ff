"""How late an event loop is while its worker gives memory back, beside the same loop that is never asked, in turn.

A question comes each 10 s and not each minute, so that a short run has several.
"""

import asyncio
import random
import time

from memunit.worker import giving

ROUNDS = 4
SECONDS = 60.0
EACH = 10.0
# Objects that live on, and MiB that a fragmented heap has free when the question comes.
HEAPS = {"20,000 objects, 40 MiB free": (20_000, 40), "1,000,000 objects, 100 MiB free": (1_000_000, 100)}


def main() -> None:
    """Measure and print."""
    for name, (objects, free) in HEAPS.items():
        heap = [(number, [number]) for number in range(objects // 2)]
        for number in range(ROUNDS):
            asked = bool(number % 2)
            late, pauses = asyncio.run(_run(free, asked=asked))
            late.sort()
            found = [late[int(len(late) * share)] * 1000 for share in (0.5, 0.99, 0.999)]
            print(
                f"{name}, {'asked' if asked else 'never asked':11}: p50 {found[0]:.2f}, p99 {found[1]:.2f}, "
                f"p99.9 {found[2]:.2f}, at most {late[-1] * 1000:.1f} ms; "
                f"{len(pauses)} pauses, {sum(pauses) * 1000:.1f} ms in all",
                flush=True,
            )
        del heap


async def _run(free: int, *, asked: bool) -> tuple[list[float], list[float]]:
    """How late each tick of a millisecond was, and for how long the loop stood still for our sake, in seconds."""
    loop, late = asyncio.get_running_loop(), list[float]()
    giver, allowance = giving.Giver(), _Noted()
    giver._allowance = allowance
    begun = asked_at = loop.time()
    kept: list[bytearray] = []
    while loop.time() < begun + SECONDS:
        before = loop.time()
        await asyncio.sleep(0.001)
        late.append(loop.time() - before - 0.001)
        if loop.time() >= asked_at + EACH:
            asked_at += EACH
            kept = _fragmented(free)
            if asked:
                giver.begin()
    del kept
    return late, allowance.pauses


def _fragmented(free: int) -> list[bytearray]:
    sizes, blocks, left = random.Random(7), list[bytearray](), free << 20
    while left > 0:
        blocks.append(bytearray(sizes.randrange(1 << 10, 60 << 10)))
        left -= len(blocks[-1])
    return blocks[::20]


class _Noted(giving.Allowance):
    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self.pauses: list[float] = []

    def spend(self, seconds: float) -> None:
        self.pauses.append(seconds)
        super().spend(seconds)
