"""What each server module returns: an app, ready to be served, and the call that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Optional, Protocol

from memunit.worker import giving
from memunit.worker.hooks import Hooks
from memunit.worker.inherited import Inherited
from memunit.worker.notify import Notify

if TYPE_CHECKING:
    from memunit.worker.httpserver import HttpServer
    from memunit.worker.proxied import Trusted

Serve = Callable[[List[Inherited], Notify, Hooks], int]
"""Serve on these descriptors until told to stop; the exit status."""


class Server(NamedTuple):
    """What serves an app; `rehearse`, in a zygote, does all of that which can be done before a fork.

    Both raise Unusable.
    """

    serve: Serve
    rehearse: Callable[[List[Inherited], Hooks], None] = lambda entries, hooks: None


class Threaded(Protocol):
    """Runs an app in threads, as wsgi.Bridge does."""

    def server(
        self, *arguments: Any, trial: bool, trusted: "Optional[Trusted]", **options: Any
    ) -> "HttpServer":
        """An HttpServer, by HttpServer's own arguments but for the app; one with the trial's app if it is for a trial.

        The server believes what `trusted` proxies say of the client.
        """

    def on_busy(self, busy: Callable[[bool], None]) -> None:
        """Have busy(True) called when all threads have work, busy(False) when one is free again."""

    def ping(self, ping: Callable[[], Any]) -> None:
        """Call `ping()` if the threads get on."""

    async def finish(self) -> None:
        """Wait until the threads have come to their end."""

    def end(self) -> None:
        """Have the threads end, and wait for nothing."""


class Prepared:
    """An app that is imported, with its server and its hooks, and does not serve yet."""

    def __init__(self, server: Server, hooks: Hooks) -> None:
        self._server = server
        self._hooks = hooks

    def rehearse(self, entries: List[Inherited]) -> None:
        """Have done before a fork what else each worker would do for itself, in memory of its own. Raises Unusable."""
        self._server.rehearse(entries, self._hooks)

    def run(self, entries: List[Inherited], notify: Notify) -> int:
        """Serve in this process; the exit status. Raises Unusable."""
        giving.take()
        self._hooks.after_fork()
        return self._server.serve(entries, notify, self._hooks)
