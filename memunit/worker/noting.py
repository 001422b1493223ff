"""The notes that a worker makes of its requests: on its page, and of its memory by them."""

from __future__ import annotations

from typing import Callable

from memunit.worker import board, examined, routes, work
from memunit.worker.httpserver import HttpServer


def look_of(server: HttpServer, look: Callable[[], None]) -> Callable[[], None]:
    """What `server` is to call each second while it has connections: `look`, and what the notes want.

    They begin at the first call, before the first request: what is made for them would be pages of each idle worker
    (docs/preload.md).
    """
    page = board.own()
    if page is None:
        return look
    own = page

    def begin() -> None:
        requests = work.of(own)
        server.note(requests)
        server.each_second = look
        if examined.wanted():
            notes = routes.begin(requests.counts, requests.name)

            def each_second() -> None:
                look()
                notes.look()

            server.each_second = each_second
        server.each_second()

    return begin
