"""Requests that are in flight for as long as a test needs it, and no machine's speed matters."""

from __future__ import annotations

import itertools
import os

from tests.booted.support import LIGHT, Entry, Instance, lossless

# For the file of the instance: nobody is killed because a test takes its time.
GRACE = '[stop]\ngrace = "10min"\n'


class Held:
    """Requests of the light worker that are with the app, until the test lets them be answered."""

    _numbers = itertools.count()

    def __init__(self, instance: Instance, count: int) -> None:
        """Returns when all of them are with the app."""
        number = next(self._numbers)
        self._count = count
        self._gate = LIGHT.parent / f"held-{number}"
        os.mkfifo(self._gate)
        self._gate.chmod(0o644)
        before = len(instance.journal.find(_held))
        self._load = instance.load(clients=count, requests=count, path=f"/held?n={number}").start()
        instance.journal.until(_held, before + count)

    def answer(self) -> None:
        """Let them be answered, and wait for the answers: each of them comes."""
        # For reading as well: then whoever opens it only now need not wait for anybody either.
        gate = os.open(self._gate, os.O_RDWR)
        try:
            assert lossless(self._load.join()).ok == self._count
        finally:
            os.close(gate)
            self._gate.unlink()


def _held(entry: Entry) -> bool:
    return entry.get("MESSAGE") == "held"
