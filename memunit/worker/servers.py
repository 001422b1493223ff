"""The servers by name, and what both an exec'd worker and a zygote do with one: import all first, serve later."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional

from memunit.worker import standard
from memunit.worker.hooks import Hooks
from memunit.worker.problem import Unusable
from memunit.worker.serving import Prepared

NAMES = "asgi|wsgi|callable"
_USAGE = (
    f"usage: worker [--zygote] --server {NAMES} [--after-fork MODULE:ATTRIBUTE] "
    "[--before-stop MODULE:ATTRIBUTE] [--give-back MODULE:ATTRIBUTE] MODULE:ATTRIBUTE"
)


_OPTIONS = ("--server", "--after-fork", "--before-stop", "--give-back")


class Named(NamedTuple):
    """What a command line asks for, by names."""

    server: str
    target: str
    after_fork: Optional[str]
    before_stop: Optional[str]
    give_back: Optional[str]
    zygote: bool
    examine: Optional[int] = None
    """A descriptor on which to tell what a fork would break, and the lines that made it, and no more."""

    @property
    def packages(self) -> List[str]:
        """The top-level packages whose code is the app's own."""
        names = filter(None, (self.target, self.after_fork, self.before_stop, self.give_back))
        return [name.partition(":")[0].partition(".")[0] for name in names]


def parse(arguments: List[str]) -> Named:
    """Read a worker's command line. Raises Unusable."""
    words = list(arguments)
    examine = None
    if words[:1] == ["--examine"] and len(words) > 1 and words[1].isdigit():
        examine = int(words[1])
        del words[:2]
    zygote = words[:1] == ["--zygote"]
    if zygote:
        del words[0]
    said = {}
    while len(words) > 1 and words[0] in _OPTIONS:
        option = words.pop(0)
        said[option] = words.pop(0)
    if len(words) != 1 or words[0].startswith("-") or "--server" not in said:
        raise Unusable(_USAGE)
    return Named(
        said["--server"],
        words[0],
        said.get("--after-fork"),
        said.get("--before-stop"),
        said.get("--give-back"),
        zygote,
        examine,
    )


def prepare(named: Named) -> Prepared:
    """Import the server, the app and the hooks. Raises Unusable."""
    server = load(named.server).prepare(named.target)
    prepared = Prepared(server, Hooks(named.after_fork, named.before_stop, named.give_back))
    standard.fill()
    return prepared


def load(name: str) -> Any:
    """The module of a server. Raises Unusable."""
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
