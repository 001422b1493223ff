"""The servers by name, and what both an exec'd worker and a zygote do with one: import all first, serve later."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional

from memunit.worker.hooks import Hook, Hooks
from memunit.worker.inherited import Inherited
from memunit.worker.notify import Notify
from memunit.worker.problem import Unusable

Serve = Callable[[List[Inherited], Notify, Optional[Hook]], int]
"""Serve on these descriptors until told to stop; the exit status. The hook runs between SIGTERM and the stop."""

NAMES = "asgi|wsgi|callable"
_USAGE = (
    f"usage: worker [--zygote] --server {NAMES} [--after-fork MODULE:ATTRIBUTE] "
    "[--before-stop MODULE:ATTRIBUTE] MODULE:ATTRIBUTE"
)


class Named(NamedTuple):
    """What a command line asks for, by names."""

    server: str
    target: str
    after_fork: Optional[str]
    before_stop: Optional[str]
    zygote: bool


class Prepared:
    """An app that is imported, with its server and its hooks, and does not serve yet."""

    def __init__(self, serve: Serve, hooks: Hooks) -> None:
        self._serve = serve
        self._hooks = hooks

    def run(self, entries: List[Inherited], notify: Notify) -> int:
        """Serve in this process; the exit status. Raises Unusable."""
        self._hooks.after_fork()
        return self._serve(entries, notify, self._hooks.before_stop)


def parse(arguments: List[str]) -> Named:
    """Read a worker's command line. Raises Unusable."""
    words = list(arguments)
    zygote = words[:1] == ["--zygote"]
    if zygote:
        del words[0]
    said = {}
    while len(words) > 1 and words[0] in ("--server", "--after-fork", "--before-stop"):
        option = words.pop(0)
        said[option] = words.pop(0)
    if len(words) != 1 or words[0].startswith("-") or "--server" not in said:
        raise Unusable(_USAGE)
    return Named(said["--server"], words[0], said.get("--after-fork"), said.get("--before-stop"), zygote)


def prepare(named: Named) -> Prepared:
    """Import the server, the app and the hooks. Raises Unusable."""
    return Prepared(_server(named.server).prepare(named.target), Hooks(named.after_fork, named.before_stop))


def _server(name: str) -> Any:
    # One server a worker; the others cost nothing.
    if name == "asgi":
        from memunit.worker import asgi  # noqa: PLC0415

        return asgi
    if name == "wsgi":
        from memunit.worker import wsgi  # noqa: PLC0415

        return wsgi
    if name == "callable":
        from memunit.worker import callable as plain  # noqa: PLC0415

        return plain
    raise Unusable(f"no server called {name!r}: asgi, wsgi or callable")
