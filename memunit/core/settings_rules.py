"""What the values of a document have to do with each other: contradictions, and what is merely odd."""

import math
from collections.abc import Callable, Mapping, Set
from typing import Any

from memunit.core.problems import COMMAND_LINE, Problem
from memunit.core.quantity import format_size, format_time

# The longest grace for which TimeoutStopSec=330s of memunit@.service is enough: the master needs a moment after it.
UNIT_STOP_TIMEOUT = 300.0


def check_rules(
    values: Mapping[str, Any],
    source: str,
    *,
    label: Callable[[str], str],
    unusable: Set[str],
    complete: bool,
) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of `values`, by path.

    The keys in `unusable` have a problem already: they are not missing. `complete` is false when a name was
    not understood, so that what seems to be missing may just be misspelt.
    """
    rules = _Rules(values, source, label, unusable)
    rules.app(complete=complete)
    rules.threads()
    rules.memory()
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
                f"stands beside {self._label('app.command')}, and a worker is only one",
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
            for path in ("app.server", "app.python", "app.after_fork", "app.before_stop"):
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
            if self._values.get("app.preload"):
                self._problem("app.preload", "a command can't be imported", "remove it")
        elif run and self._values.get("app.ready") == "exec":
            self._problem(
                "app.ready", "exec is for commands: a Python worker says itself when it is ready", "remove it"
            )

    def threads(self) -> None:
        """For WSGI alone, and one at least."""
        number, server = self._values.get("app.threads"), self._values.get("app.server", "asgi")
        if number == 0:
            self._problem("app.threads", "0 threads answer nothing", "say 1 or more")
        elif number is not None and self._values.get("app.run") is not None and server != "wsgi":
            name = self._label("app.server")
            self._problem("app.threads", f'goes with {name} "wsgi", not with "{server}"', "remove it")

    def memory(self) -> None:
        """The limit comes before the ceiling."""
        limit, ceiling = self._values.get("memory.limit"), self._values.get("memory.ceiling")
        if limit is None or ceiling is None:
            return
        name = self._label("memory.ceiling")
        if limit > ceiling:
            self._problem(
                "memory.limit",
                f"{format_size(limit)} is over the {name} of {format_size(ceiling)}, which kills first",
                f"set the limit below {format_size(ceiling)}, or the ceiling above {format_size(limit)}",
            )
        elif limit == ceiling:
            self._warn(
                "memory.limit",
                f"is the same as the {name}: a worker is killed there before it can be replaced",
                "leave room between them, as 400M and 600M",
            )

    def times(self) -> None:
        """Times that defeat each other."""
        grace = self._values.get("stop.grace", 0.0)
        if grace > UNIT_STOP_TIMEOUT and self._source != COMMAND_LINE:
            most = format_time(UNIT_STOP_TIMEOUT)
            self._warn(
                "stop.grace",
                f"{format_time(grace)} is more than the {most} that TimeoutStopSec= in memunit@.service leaves to "
                "workers whose master has died: systemd kills them then",
                f"say {most} at most, or raise TimeoutStopSec= in a drop-in (systemctl edit)",
            )
        youngest = self._values.get("workers.min_lifetime", 10.0)
        oldest = self._values.get("workers.max_age", math.inf)
        if oldest < youngest:
            self._warn(
                "workers.max_age",
                f"{format_time(oldest)} is less than the {self._label('workers.min_lifetime')} of "
                f"{format_time(youngest)}, so the memory limit is never applied",
                "raise max_age or lower min_lifetime",
            )
