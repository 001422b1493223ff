"""What the values of a document have to do with each other: contradictions, and what is merely odd."""

import math
from collections.abc import Callable, Mapping, Set
from typing import Any

from memunit.core.problems import COMMAND_LINE, Problem
from memunit.core.quantity import format_size, format_time

_HOOKS = ("app.after_fork", "app.before_stop", "app.give_back")


def check_rules(
    values: Mapping[str, Any],
    source: str,
    *,
    label: Callable[[str], str],
    unusable: Set[str],
    complete: bool,
    in_unit: bool,
) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of `values`, by path.

    The keys in `unusable` have a problem already: they are not missing. `complete` is false when a name was
    not understood, so that what seems to be missing may just be misspelt; `in_unit` when they are for memunit@.service.
    """
    rules = _Rules(values, source, label, unusable)
    rules.app(complete=complete)
    rules.threads()
    rules.access_log()
    rules.http()
    rules.socket(in_unit=in_unit)
    rules.memory()
    rules.giving()
    rules.examining()
    rules.service(in_unit=in_unit)
    rules.times()
    return rules.problems, rules.warnings


class _Rules:
    def __init__(
        self, values: Mapping[str, Any], source: str, label: Callable[[str], str], unusable: Set[str]
    ) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._values = values
        self._source = source
        self._label = label
        self._unusable = unusable

    def _problem(self, path: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(self._source, self._label(path), message, remedy))

    def _warn(self, path: str, message: str, remedy: str) -> None:
        self.warnings.append(Problem(self._source, self._label(path), message, remedy))

    def _said(self, path: str) -> bool:
        """Whether the key stands there, usable or not."""
        return path in self._values or path in self._unusable

    def app(self, *, complete: bool) -> None:
        """Exactly one of run and command, and what goes with each."""
        run, command = self._said("app.run"), self._said("app.command")
        typed = self._source == COMMAND_LINE
        if run and command:
            self._problem(
                "app.run",
                f"can't be set together with {self._label('app.command')}: a worker runs only one of them",
                "remove one of them",
            )
        elif not run and not command and complete:
            message = "nothing to run"
            if typed:
                remedy = "say --app MODULE:ATTR, or a program after --"
            else:
                remedy = 'in [app] say run = "module:app" or command = ["program"]; see memunit.toml(5)'
            self.problems.append(Problem(self._source, "" if typed else "app", message, remedy))
        if command and not run:
            for path in ("app.server", "app.python", "app.node", *_HOOKS):
                if path in self._values:
                    self._problem(
                        path, f"goes with {self._label('app.run')}, not with a command", "remove it"
                    )
            if "app.threads" in self._values:
                self._problem(
                    "app.threads",
                    f'goes with {self._label("app.run")} and {self._label("app.server")} "wsgi"',
                    "remove it",
                )
            if self._values.get("app.preload") is True:
                self._problem("app.preload", "a command can't be imported", "remove it")
        if run and not command:
            self._node()
            if self._values.get("stop.signal", "SIGTERM") != "SIGTERM":
                message = "is for commands: the workers of an app stop at SIGTERM"
                self._problem("stop.signal", message, "remove it")
        if run and self._values.get("app.ready") == "exec":
            kind = "Node" if self._values.get("app.server") == "node" else "Python"
            text = f"exec is for commands: a {kind} worker says itself when it is ready"
            self._problem("app.ready", text, "remove it")

    def _node(self) -> None:
        """What is for a Node program alone, and what is for a Python app alone."""
        name, server = self._label("app.server"), self._values.get("app.server", "asgi")
        if server != "node":
            if "app.node" in self._values and "app.server" not in self._unusable:
                self._problem("app.node", f'goes with {name} "node", not with "{server}"', "remove it")
            return
        for path in ("app.python", *_HOOKS):
            if path in self._values:
                self._problem(path, 'is for Python apps, and "node" is none', "remove it")
        if self._values.get("app.preload") is True:
            self._problem("app.preload", "a Node program can't be imported before a fork", "remove it")

    def threads(self) -> None:
        """For WSGI alone, and one at least."""
        number, server = self._values.get("app.threads"), self._values.get("app.server", "asgi")
        if number == 0:
            self._problem("app.threads", "0 threads answer nothing", "say 1 or more")
        elif number is not None and self._values.get("app.run") is not None and server != "wsgi":
            name = self._label("app.server")
            self._problem("app.threads", f'goes with {name} "wsgi", not with "{server}"', "remove it")

    def access_log(self) -> None:
        """For what memunit serves itself."""
        server = self._values.get("app.server", "asgi")
        if self._values.get("app.access_log") is True and (
            self._said("app.command") or server not in ("asgi", "wsgi")
        ):
            name = self._label("app.server")
            self._problem(
                "app.access_log",
                f'goes with {name} "asgi" or "wsgi": other servers write their own log',
                "remove it",
            )

    def http(self) -> None:
        """For the servers in which memunit speaks HTTP."""
        run, server = self._values.get("app.run"), self._values.get("app.server", "asgi")
        if not self._said("app.command") and (run is None or server in ("asgi", "wsgi")):
            return
        for path in self._values:
            if path.startswith("http."):
                which = f'goes with {self._label("app.server")} "asgi" or "wsgi"'
                other = "a command" if self._said("app.command") else f'"{server}"'
                self._problem(path, f"{which}, not with {other}", f"remove it: {other} speaks HTTP by itself")

    def socket(self, *, in_unit: bool) -> None:
        """A mode and an owner are for files. Where no address is said, the socket unit's own is one."""
        listen = self._values.get("socket.listen", ())
        if in_unit and any(address.kind == "tcp" and address.port == 0 for address in listen):
            text = "a .socket unit can't listen on port 0, which means a port that the kernel chooses"
            self._problem("socket.listen", text, 'say which port, as in "127.0.0.1:8000"')
        if "socket.listen" in self._unusable or not listen or any(address.has_file for address in listen):
            return
        for path in ("socket.mode", "socket.user", "socket.group"):
            if path in self._values:
                where = self._label("socket.listen")
                self._problem(path, f"goes with the path of a Unix socket, and {where} has none", "remove it")

    def giving(self) -> None:
        """What is asked to give memory back has patience for its answer."""
        if self._values.get("memory.give_back") is True and self._values.get("memory.patience") == 0:
            name = self._label("memory.patience")
            text = f"a {name} of 0 leaves a worker no time to give memory back, so memunit asks no worker"
            self._warn("memory.give_back", text, f'set {name} to "2s", or remove this key')

    def examining(self) -> None:
        """A program for workers that can't examine themselves, and that has time to run."""
        if "examine.command" not in self._values:
            return
        server = self._values.get("app.server", "asgi")
        if (
            self._values.get("app.run") is not None
            and server != "node"
            and "app.server" not in self._unusable
        ):
            message = (
                f'goes with a command or {self._label("app.server")} "node": a Python worker examines itself'
            )
            self._problem("examine.command", message, "remove it")
        elif self._values.get("examine.time") == 0:
            name = self._label("examine.time")
            self._warn(
                "examine.command", f"never runs with a {name} of 0", f'say a {name} of "2s", or remove it'
            )

    def memory(self) -> None:
        """The limit comes before the ceiling."""
        limit, ceiling = self._values.get("memory.limit"), self._values.get("memory.ceiling")
        total, one = self._values.get("memory.total"), ceiling or limit
        if total is not None and one is not None and one > total:
            self._problem(
                "memory.total",
                f"{format_size(int(total))} is less than what one worker may take, {format_size(one)}",
                "say how much all workers may take together",
            )
        if limit is None or ceiling is None:
            return
        name = self._label("memory.ceiling")
        if limit > ceiling:
            self._problem(
                "memory.limit",
                f"{format_size(limit)} is over the {name} of {format_size(ceiling)}: a worker would be killed before "
                "it is "
                "replaced",
                f"set the limit below {format_size(ceiling)}, or the ceiling above {format_size(limit)}",
            )
        elif limit == ceiling:
            self._warn(
                "memory.limit",
                f"is the same as the {name}: a worker is killed there before it can be replaced",
                "leave room between the two, as 400M and 600M",
            )

    def service(self, *, in_unit: bool) -> None:
        """What is for systemd alone."""
        said = [path for path in self._values if path.startswith("service.")]
        if said and not in_unit:
            text = f"{', '.join(said)}: for memunit@.service only, and without effect here"
            self._warn(
                "service",
                text,
                "start memunit run as the user, and in the environment, that the app is to have",
            )

    def times(self) -> None:
        """Times that defeat each other."""
        youngest = self._values.get("workers.min_lifetime", 10.0)
        oldest = self._values.get("workers.max_age", math.inf)
        if oldest < youngest:
            self._warn(
                "workers.max_age",
                f"{format_time(oldest)} is less than the {self._label('workers.min_lifetime')} of "
                f"{format_time(youngest)}, so the memory limit is never applied",
                "raise max_age or lower min_lifetime",
            )
