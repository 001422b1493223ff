"""The servers by name, and what both an exec'd worker and a zygote do with one: import all first, serve later."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional

from memunit.worker.hooks import Hooks
from memunit.worker.problem import Unusable
from memunit.worker.serving import Prepared

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
