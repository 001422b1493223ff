"""What there was at the start: noted in the zygote before it freezes its objects, without one at READY.

Of containers their lengths: two columns of numbers, which a zygote and its workers share, as no page with objects would
stay shared. Nothing here holds an object.
"""

from __future__ import annotations

import gc
import mmap
import struct
import time
import types
import weakref
from array import array
from bisect import bisect_left
from itertools import compress
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from memunit.worker.examination import memory
from memunit.worker.examination.kinds import BLOB, CONTAINER, LARGE, PLAIN, Kinds

SHORTEST = 32
"""Elements from which on the length of a container is noted."""
_EXACT = (dict, list, set)
# What these hold is known already, or short.
_NO_HOLDERS = (types.MethodType, weakref.ref, property, staticmethod, classmethod)
_AT_ONCE = 4096
_LONGEST = 1 << 16
# Longer tables are cut. What is not touched of that memory takes none.
_MOST = 1 << 20
_HEADER = struct.Struct("=QQQQQ??6x")
# Seconds of CPU: a heap whose noting takes longer is noted in part. By the wall's clock, a busy machine cut it short.
_SECONDS = 2.0
# Where CPU time is rationed, no worker may wait for its READY=1 for long: seconds by the wall's clock.
_PATIENCE = 10.0
_NOT_KNOWN = 1 << 62


class Lengths(NamedTuple):
    """Addresses in order, and at the same place what was noted: elements of a container, or bytes."""

    addresses: Sequence[int]
    lengths: Sequence[int]
    whole: bool
    """Whether the whole heap was noted. An object that a part lacks may have been as long then, and has not grown."""

    def of(self, address: int) -> int:
        """What was noted for the object at this address; if nothing was, 0, or more than it can have by now."""
        place = bisect_left(self.addresses, address)
        if place < len(self.addresses) and self.addresses[place] == address:
            return self.lengths[place]
        return 0 if self.whole else _NOT_KNOWN


class Baseline(NamedTuple):
    """What there was at the start."""

    lengths: Lengths
    memory: memory.Memory
    heap: Optional[memory.Heap]
    frozen: bool
    """Whether what was there then is not among gc.get_objects() any more."""


class _Kept:
    """One for the process. A worker inherits it over the fork."""

    shared: Optional[mmap.mmap] = None
    """What a zygote notes, all of whose workers share it: the first one too, which is forked before that."""
    lengths: Optional[Lengths] = None
    memory: Optional[memory.Taken] = None


def expect_in_zygote() -> None:
    """Before the first fork of a zygote."""
    _Kept.shared = mmap.mmap(-1, _HEADER.size + 16 * _MOST)
    memory.take()  # what that makes for good, all workers share


def note_in_zygote() -> None:
    """Before a gc.freeze(), so that it is known which objects are the zygote's."""
    shared = _Kept.shared
    assert shared is not None
    noted, whole = _lengths()
    found = sorted(noted.items())[:_MOST]
    heap = memory.heap()
    numbers = memoryview(shared)[_HEADER.size :].cast("Q")
    numbers[: len(found)] = array("Q", [address for address, _ in found])
    numbers[_MOST : _MOST + len(found)] = array("Q", [length for _, length in found])
    _HEADER.pack_into(shared, 0, 1 + len(found), *(heap or (0,) * 5), whole and len(noted) <= _MOST)


def note_objects() -> None:
    """In a worker that no zygote has forked: all that a zygote would have noted."""
    if _Kept.shared is None:
        noted, whole = _lengths()
        found = sorted(noted.items())
        addresses = array("Q", [address for address, _ in found])
        _Kept.lengths = Lengths(addresses, array("Q", [length for _, length in found]), whole)


def note_memory() -> None:
    """In each worker, before its first request."""
    _Kept.memory = memory.take()


def noted() -> Optional[Baseline]:
    """What was noted, if all of it was."""
    if _Kept.memory is None:
        return None
    if _Kept.shared is None:
        return (
            None if _Kept.lengths is None else Baseline(_Kept.lengths, memory.told(_Kept.memory), None, False)
        )
    count, *heap, whole = _HEADER.unpack_from(_Kept.shared)
    if not count:
        return None  # the zygote has not come to it
    numbers = memoryview(_Kept.shared)[_HEADER.size :].cast("Q")
    lengths = Lengths(numbers[: count - 1], numbers[_MOST : _MOST + count - 1], whole)
    known = memory.Heap(heap[0], heap[1], heap[2], heap[3], bool(heap[4])) if any(heap) else None
    return Baseline(lengths, memory.told(_Kept.memory), known, True)


def _lengths() -> Tuple[Dict[int, int], bool]:
    """Of all objects, by their addresses; and whether it was all of them."""
    noting, until = _Noting(), time.thread_time() + _SECONDS
    late = time.monotonic() + _PATIENCE
    objects = gc.get_objects()
    for begin in range(0, len(objects), _AT_ONCE):
        if time.thread_time() > until or time.monotonic() > late:
            return noting.found, False
        noting.note(objects[begin : begin + _AT_ONCE])
    return noting.found, True


class _Noting:
    """Loops in C, as far as there are such: this is done for each object of the app, while somebody waits for READY."""

    def __init__(self) -> None:
        self.found: Dict[int, int] = {}
        self._kinds = Kinds()
        self._exact = {id(each) for each in _EXACT}
        self._derived: Set[int] = set()
        # What the collector does not know by itself: dicts of strings and numbers, strings, arrays.
        self._apart = {id(each) for each in (dict, str, bytes, bytearray)}
        self._arrays: Set[int] = set()
        self._holds: Set[int] = set()
        self._known: Set[int] = set()

    def note(self, some: List[Any]) -> None:
        """What of these objects, and of those they refer to, is long."""
        kinds_of = self._kinds_of(some)
        ordinary = list(compress(some, map(self._holds.__contains__, kinds_of)))
        for each in compress(some, map(self._exact.__contains__, kinds_of)):
            if len(each) >= SHORTEST:
                self.found[id(each)] = len(each)
                if len(each) > _LONGEST:  # not all of its elements at once
                    ordinary = [other for other in ordinary if other is not each]
        for each in compress(some, map(self._derived.__contains__, kinds_of)):
            length = self._kinds.length(each)
            if length >= SHORTEST:
                self.found[id(each)] = length
        referents = gc.get_referents(*ordinary)
        kinds_of = self._kinds_of(referents)
        for each in compress(referents, map(self._apart.__contains__, kinds_of)):
            if len(each) >= SHORTEST:
                if type(each) is dict:
                    self.found[id(each)] = len(each)
                elif len(each) >= LARGE // 4 and self._kinds.size(each) >= LARGE:
                    self.found[id(each)] = self._kinds.size(each)
        for each in compress(referents, map(self._arrays.__contains__, kinds_of)):
            size = self._kinds.size(each)
            if size >= LARGE:
                self.found[id(each)] = size

    def _kinds_of(self, things: List[Any]) -> List[int]:
        """The id() of the type of each, and no type is unknown any more."""
        of_each = list(map(type, things))
        found = list(map(id, of_each))
        new = set(found) - self._known
        if new:
            by_address = dict(zip(found, of_each))  # noqa: B905  Python 3.9 has no `strict`
            for address, kind in by_address.items():
                if address in new:
                    self._sort(kind)
        return found

    def _sort(self, kind: type) -> None:
        self._known.add(id(kind))
        code = self._kinds.code(kind)
        if code == CONTAINER or (code == PLAIN and not any(kind is each for each in _NO_HOLDERS)):
            self._holds.add(id(kind))
        if id(kind) in self._exact or id(kind) in self._apart:
            return
        if code == CONTAINER and kind is not tuple:
            self._derived.add(id(kind))
        elif code == BLOB:
            self._arrays.add(id(kind))
