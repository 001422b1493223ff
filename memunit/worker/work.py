"""The requests in work, and how many of which route are done, as the worker's page has them (board.py).

All is written by the one thread that runs the loop, so nothing here is locked. What is known of a request's path is a
number; the path itself is written only where it is not known yet whether it belongs to a route. The master folds it.
"""

from __future__ import annotations

import re
import struct
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from memunit.worker.board import (
    COUNTS,
    IN_WORK,
    NAME_SIZE,
    NAMES,
    ROUTES,
    SLOT_SIZE,
    SLOTS,
    UNLISTED,
    Page,
)

UNKNOWN = 0xFFFFFFFF
OTHERS = ROUTES
"""The place of all routes for which there was no place left."""
_KNOWN = struct.Struct("<QI")
_WHOLE = struct.Struct("<QI12s104s")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Answers of a server that has no such route: a scanner's paths are no routes of the app.
_NO_ROUTE = (400, 404, 405, 410, 501)
_MOST_PATHS = 512
_LONGEST_PATH = 200
_LONGEST_NAME = 120
# Any digit is as good as another.
_DIGITS = bytes(48 if 48 <= number < 58 else number for number in range(256))
_NUMBER = re.compile(rb"/[0-9]+(?=/|$)")
_MIXED = re.compile(rb"/[^/]*(?:[^/0-9][0-9]|[0-9][^/0-9])[^/]*(?=/|$)")
# memunit/core/paths.py has the same.
_VARIABLE = re.compile(
    r"[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}"
    r"|(?=[^/]*[0-9])[0-9a-fA-F]{8,}|(?=[^/]*[0-9])[^/]{20,}|[^/]{40,}"
)

# Paths whose route is known: as they are; those that end with a number, without it; and any, with zeros for digits, and
# then with what the path itself has to have in it, for digits beside letters may tell "/v1" from "/v2".
_Paths = Tuple[Dict[bytes, int], Dict[bytes, int], Dict[bytes, Tuple[bytes, int]]]
Request = Tuple[int, Optional[int]]
"""The byte where its slot begins, 0 for none; and its route, None as long as it is not known."""


class Work(NamedTuple):
    """begin() when the app is given a request, end() when it has done with it. Both cost a part of a microsecond."""

    begin: Callable[[str, bytes], Request]
    """Of a method and a path, without a query: what end() wants."""
    end: Callable[[Request], bool]
    """Whether that was all. If not, end_unknown() is to be called: the route is to be found out."""
    end_unknown: Callable[[Request, str, bytes, Optional[str], int], None]
    """Of the method and the path again, the route by the framework's word, and the status of the answer."""
    counts: Callable[[], List[int]]
    """The requests of each route that are done, and those of all others at the end."""
    name: Callable[[int], str]
    """The name of a route."""


def fold(path: str) -> str:
    """The path without what tells one request from another: "/product/{}" of "/product/1234"."""
    return "/".join("{}" if _VARIABLE.fullmatch(segment) else segment for segment in path.split("/"))


def of(page: Page) -> Work:
    """What writes the requests of this process on its page."""
    memory: Any = page.memory
    words: Any = memoryview(memory).cast("Q")
    routes = _Routes(memory)
    paths_of = routes.paths.get
    free = [IN_WORK + index * SLOT_SIZE for index in reversed(range(SLOTS))]
    counts_at = COUNTS // 8
    # Nothing is read back from the page: the app can write there.
    done = [0] * (ROUTES + 1)
    unlisted = 0

    # To look a global name up is dearer than a default.
    def begin(
        method: str,
        path: bytes,
        *,
        now: Callable[[], int] = time.monotonic_ns,
        write: Callable[..., None] = _KNOWN.pack_into,
    ) -> Request:
        paths = paths_of(method)
        route = None
        if paths is not None:
            key = path.rstrip(b"0123456789")
            route = paths[0].get(key) if len(key) == len(path) else paths[1].get(key)
            if route is None and paths[2]:
                found = paths[2].get(path.translate(_DIGITS))
                if found is not None:
                    segment, route = found
                    if segment not in path:
                        route = None
        if not free:
            nonlocal unlisted
            unlisted = words[UNLISTED // 8] = unlisted + 1
            return 0, route
        slot = free.pop()
        if route is None:
            _WHOLE.pack_into(memory, slot, now(), UNKNOWN, method.encode("latin-1", "replace"), path)
        else:
            write(memory, slot, now(), route)
        return slot, route

    def end(request: Request) -> bool:
        slot, route = request
        if slot:
            words[slot >> 3] = 0
            free.append(slot)
        else:
            nonlocal unlisted
            unlisted = words[UNLISTED // 8] = unlisted - 1
        if route is None:
            return False
        words[counts_at + route] = done[route] = done[route] + 1
        return True

    def end_unknown(request: Request, method: str, path: bytes, named: Optional[str], status: int) -> None:
        route = routes.learn(method, path, named, status)
        words[counts_at + route] = done[route] = done[route] + 1

    return Work(begin, end, end_unknown, done.copy, routes.name)


def _note(paths: _Paths, path: bytes, place: int) -> None:
    static, numbered, mixed = paths
    key = path.rstrip(b"0123456789")
    if len(key) < len(path) and key.endswith(b"/"):
        numbered[key] = place
    elif not _NUMBER.search(path):
        if len(key) == len(path):
            static[path] = place
        else:
            mixed[path.translate(_DIGITS)] = path, place
    else:
        with_digits = _MIXED.findall(path)
        if len(with_digits) < 2:
            mixed[path.translate(_DIGITS)] = with_digits[0] if with_digits else b"/", place


class _Routes:
    """The names that were given a place, and the paths whose route is known."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._places: Dict[str, int] = {}
        self._names: List[str] = []
        self.paths: Dict[str, _Paths] = {method: ({}, {}, {}) for method in _METHODS}

    def name(self, place: int) -> str:
        return self._names[place] if place < len(self._names) else "all other routes"

    def learn(self, method: str, path: bytes, named: Optional[str], status: int) -> int:
        """The place of a request's route. A path that is like it belongs to the same from now on."""
        if named is None and status in _NO_ROUTE:
            return OTHERS
        route = named or fold(path.decode("utf-8", "replace"))
        place = self._place(f"{method if method in _METHODS else 'OTHER'} {route}")
        paths = self.paths.get(method)
        if paths is not None and len(path) <= _LONGEST_PATH:
            if sum(len(each) for each in paths) >= _MOST_PATHS:
                for each in paths:
                    each.clear()
            _note(paths, path, place)
        return place

    def _place(self, name: str) -> int:
        place = self._places.get(name)
        if place is None:
            place = len(self._names)
            if place >= ROUTES:
                return OTHERS
            text = name[:_LONGEST_NAME].encode("utf-8", "replace")[:_LONGEST_NAME]
            begin = NAMES + place * NAME_SIZE
            self._memory[begin : begin + len(text)] = text
            self._places[name] = place
            self._names.append(name[:_LONGEST_NAME])
        return place
