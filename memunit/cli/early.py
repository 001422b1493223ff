"""What `run` and `serve` do before all else: claim the cgroup tree, and start an interpreter ahead (master/ahead.py).

Only what it needs is imported here, and the rest of the master while that interpreter starts. So the file and the
command line are looked at twice: here for the few words that say what is to be started, and without any judgement.
An unusual start is left to the launch that comes later.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence

from memunit.master.afresh import FOR_THE_MASTER
from memunit.master.ahead import Ahead
from memunit.master.filenames import NOTIFY, STARTS, WORKERS, given_directory

TYPE_CHECKING = False  # the module typing takes as long as all of this
if TYPE_CHECKING:
    from typing import Any

    from memunit.master.cgroup import Tree

WORKER = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/worker"
# The file and not its folder, with which Python would first import runpy: 4 ms of each start of an interpreter.
PROGRAM = f"{WORKER}/__main__.py"
# The group of the first zygote of a master that takes nothing over: revision 1, number 0.
_FIRST = "1.0"
_REMEDIES = {
    "run": "systemd-run --user --scope -p Delegate=yes memunit run gives it one",
    "serve": "say Delegate=memory in the unit",
}
_CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
_HANDOVER = "MEMUNIT_HANDOVER"
_SERVERS = ("asgi", "wsgi")
_DIRECTORY = "/etc/memunit"
# By default SIGQUIT dumps core, and what SIGINT raises while a module is imported can come as another exception, or be
# dropped. KillSignal= of a unit may name either.
_END_BADLY = (signal.SIGINT, signal.SIGQUIT)
# Of `memunit run`: the options with a value that matter here, with their keys.
_OPTIONS = {
    "--app": "run",
    "--run": "run",
    "--server": "server",
    "--python": "python",
    "--directory": "directory",
    "--environment": "environment",
    "--preload": "preload",
}


class Early:
    """What was done. `ahead` is None if there is nothing to start ahead."""

    def __init__(self, command: str, words: Sequence[str]) -> None:
        self.ahead: Ahead | None = None
        # By default they end or stop a process. Ignored, a SIGHUP that comes when the file has been read is lost.
        # Blocked, it waits for the master's handlers (Signals.arm).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*FOR_THE_MASTER, *_END_BADLY))
        # Until StopBeforeStart has handlers for them. In a process that goes on as a master they were blocked before.
        self.withheld = frozenset(_END_BADLY) - before
        self._command = command
        self._claimed: "tuple[Tree | None, str] | None" = None
        app = None if _continues() else _app(command, words)
        if app is not None:
            self._begin(app)

    def claimed(self) -> "tuple[Tree | None, str]":
        """The delegated part of the cgroup tree, with this process in a leaf of it; or why there is none."""
        from memunit.master.cgroup import Unavailable, claim  # noqa: PLC0415  see _begin

        if self._claimed is None:
            try:
                self._claimed = claim(_REMEDIES[self._command], _kept), ""
            except Unavailable as unavailable:
                self._claimed = None, str(unavailable)
        return self._claimed

    def drop(self) -> None:
        """End what was started, if nobody has come to need it."""
        if self.ahead is not None:
            self.ahead.drop()

    def _begin(self, app: "Mapping[str, Any]") -> None:
        # Before it touches memory, it has to be in its group; where there are no groups (cgroup v1), time is saved.
        tree, procs = self.claimed()[0] if os.path.exists(_CONTROLLERS) else None, ""
        runtime = given_directory()
        more = app.get("environment", {})
        program = [app.get("python", sys.executable), PROGRAM, "--ahead", app.get("server", "asgi")]
        program += ["mortal"] if self._command == "run" else []
        try:
            if tree is not None:
                if os.path.exists(tree.zygote_path(_FIRST)):
                    return
                procs = f"{tree.zygote(_FIRST)}/cgroup.procs"
            self.ahead = Ahead(
                program,
                {"PYTHONUNBUFFERED": "1", **os.environ, **more},
                app.get("directory"),
                procs,
                f"{runtime}/{NOTIFY}" if runtime else None,
            )
        except (OSError, ValueError):
            return


def _continues() -> bool:
    """Whether there are workers to take over, or starts that have failed: nothing is to be started at once then."""
    runtime = given_directory()
    return _HANDOVER in os.environ or (
        bool(runtime) and any(os.path.exists(f"{runtime}/{name}") for name in (WORKERS, STARTS))
    )


def _kept(total: int, held: int) -> int:
    from memunit.core.budget import kept_back  # noqa: PLC0415  only asked later

    return kept_back(total, held)


def _app(command: str, words: Sequence[str]) -> "dict[str, Any] | None":
    """What the file and the options say of the app, as far as all of it is usable; None where it is not."""
    if "--" in words and command == "run":
        return None
    said = _typed(words) if command == "run" else {"config": words[-1]} if words else {}
    if said is None:
        return None
    app: "dict[str, Any]" = {}
    if "config" in said:
        found = _written(said.pop("config"))
        if found is None:
            return None
        app = {**found, **said}
        if "command" in found:
            return None
    else:
        app = said
    texts = all(isinstance(app.get(name, ""), str) for name in ("run", "server", "python", "directory"))
    environment: object = app.get("environment", {})
    usable = (
        texts
        and ":" in app.get("run", "")
        and app.get("server", "asgi") in _SERVERS
        and app.get("python", "/").startswith("/")
        and app.get("preload", "auto") not in (False, "false")
        and isinstance(environment, dict)
        and all(isinstance(value, str) for value in environment.values())
    )
    return app if usable else None


def _typed(words: Sequence[str]) -> "dict[str, Any] | None":
    """The options that matter here; None where somebody only asks for help."""
    said: "dict[str, Any]" = {}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("-h", "--help"):
            return None
        if option == "--no-preload":
            said["preload"] = False
        key = "config" if option == "--config" else _OPTIONS.get(option)
        if key is None or (key == "preload" and not equals):
            continue
        text = value if equals else next(rest, "")
        if key == "environment":
            name, _, content = text.partition("=")
            said.setdefault(key, {})[name] = content
        elif key in ("python", "directory") and text:
            said[key] = os.path.abspath(text) if "/" in text or key == "directory" else text
        else:
            said[key] = text
    return said


def _written(what: str) -> "dict[str, Any] | None":
    """The table [app] of the file of an instance, or of a file."""
    import tomllib  # noqa: PLC0415  a command line has no file

    path = what
    if "/" not in what and not what.endswith(".toml"):
        folder = os.environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0] or _DIRECTORY
        path = f"{folder}/{what}.toml"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), encoding="utf-8") as file:
            table = tomllib.loads(file.read(1 << 20)).get("app")
    except (OSError, ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None
