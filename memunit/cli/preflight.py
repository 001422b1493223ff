"""What can be found out before a worker is started: that the app, its interpreter and its folder are there.

Shared by check, serve, run and reload. Nothing of the app is imported or executed.
"""

import errno
import os
import shutil
import stat
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from memunit.cli import allocating, hiding, readers
from memunit.cli.modules import missing_module
from memunit.core.graceful import unlinks
from memunit.core.problems import COMMAND_LINE, Problem
from memunit.core.settings import Settings, label
from memunit.core.targets import without_suffix


def preflight(
    settings: Settings,
    source: str,
    *,
    unit: str | None = None,
    environment: Mapping[str, str] | None = None,
    doubtful: Set[str] = frozenset(),
    here: bool | None = None,
) -> list[Problem]:
    """Everything that would keep a worker from starting, as far as can be seen from here.

    `unit` is the unit that we run in ("memunit@app.service"), None for a command that a person typed.
    `environment` is ours unless given; the app's own variables are added to it. Nothing is judged by keys that are
    `doubtful` (see Parsed). `here` is whether workers start in our own working directory where no other is said; unless
    given, that is so of a command line, and of a file in its unit.
    """
    given = os.environ if environment is None else environment
    if here is None:
        here = source == COMMAND_LINE or unit is not None
    return _Preflight(settings, source, unit, given, doubtful, here=here).run()


class _Preflight:
    def __init__(
        self,
        settings: Settings,
        source: str,
        unit: str | None,
        environment: Mapping[str, str],
        doubtful: Set[str],
        *,
        here: bool,
    ) -> None:
        self._app = settings.app
        self._settings = settings
        self._doubtful = doubtful
        self._source = source
        self._unit = unit
        self._in_unit = "INVOCATION_ID" in environment
        self._environment = {**environment, **settings.app.environment}
        self._problems: list[Problem] = []
        # A file that is checked from a shell is for a unit, which starts in / unless it is told otherwise.
        self._base = settings.app.directory or "/"
        self._lost = False
        if settings.app.directory is None and here:
            try:
                self._base = os.getcwd()  # noqa: PTH109  a text is what is needed
            except OSError:
                self._lost = True

    def run(self) -> list[Problem]:
        """All problems, the folder's first."""
        self._allocator()
        self._readers()
        folder_fine = self._here() if self._app.directory is None else self._directory(self._app.directory)
        if self._settings.examine.command and "examine.command" not in self._doubtful:
            self._command("examine.command", self._settings.examine.command[0], folder_fine=folder_fine)
        if self._app.python is not None and self._app.command is None:
            self._program("app.python", self._app.python)
        if self._is_node:
            if folder_fine:
                self._node()
            return self._problems
        if self._app.command is not None:
            if self._sure("command"):
                self._command("app.command", self._app.command[0], folder_fine=folder_fine)
                self._sockets(self._app.command)
        elif (
            self._app.run is not None
            and folder_fine
            and self._sure("run", "directory", "python", "environment")
        ):
            self._module(self._app.run)
        return self._problems

    def _allocator(self) -> None:
        try:
            allocating.variables(self._settings)
        except allocating.Missing as missing:
            self._problem("memory.allocator", missing.message, missing.remedy)

    def _readers(self) -> None:
        name = self._settings.interface.read_group
        if name is not None:
            try:
                readers.number_of(name)
            except readers.NoGroup as fault:
                self._problem(readers.KEY, fault.message, fault.remedy)

    @property
    def _is_node(self) -> bool:
        return self._app.server == "node" and self._app.command is None

    def _node(self) -> None:
        from memunit.cli import nodejs  # noqa: PLC0415  most apps are in Python

        if self._app.node is not None:
            self._program("app.node", self._app.node)
        elif self._sure("node", "environment"):
            search = self._environment.get("PATH", os.defpath)
            if shutil.which("node", path=search) is None:
                key = label(self._source, "app.node")
                remedy = f"install Node, or say in {key} where it is"
                self._problem("app.node", f"there is no program node in PATH ({search})", remedy)
        if self._app.run is None or not self._sure("run", "directory"):
            return
        name = os.path.join(self._base, self._app.run)  # noqa: PTH118  an absolute path stays
        fault = nodejs.script_fault(name)
        if fault is not None:
            self._problem("app.run", *fault)
        elif nodejs.is_missing(name):
            self._stat("app.run", name)

    def _sure(self, *names: str) -> bool:
        return self._doubtful.isdisjoint(f"app.{name}" for name in names)

    def _problem(self, path: str, message: str, remedy: str) -> None:
        self._problems.append(Problem(self._source, label(self._source, path), message, remedy))

    def _stat(self, path: str, name: str) -> os.stat_result | None:
        try:
            return os.stat(name)  # noqa: PTH116  also for text that pathlib would change
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            if isinstance(error, UnicodeEncodeError):
                says = f"{name} has letters that the encoding of this locale ({error.encoding}) does not have"
                self._problem(path, says, "LC_ALL=C.UTF-8 has all")
                return None
            self._invisible(path, name, number)
            return None

    def _invisible(self, path: str, name: str, number: int | None) -> None:
        """A problem for a path that is not there, or may not be reached."""
        home = hiding.home_of(name)
        missing = number in (errno.ENOENT, errno.ENOTDIR)
        if home and self._in_unit and (hiding.is_sealed(home) or (missing and self._unit is not None)):
            # What has to be seen is the whole virtualenv, PATH/bin/python, and the folder of a command.
            depth = {"app.python": 1, "app.command": 0, "examine.command": 0}.get(path)
            needed = name if depth is None else str(Path(name).parents[depth])
            self._problem(path, hiding.message(name, home, self._unit), hiding.remedy(needed, self._unit))
        elif missing and not Path(name).exists() and Path(name).is_symlink():
            self._problem(
                path, f"{name} leads to {os.path.realpath(name)}, which does not exist", "mend the link"
            )
        elif missing:
            self._problem(path, f"{name} does not exist", "correct the path, or create it")
        elif number in (errno.EACCES, errno.EPERM):
            self._problem(
                path,
                f"{name} may not be reached by uid {os.geteuid()}",
                f"let that user search each folder of the path (namei -l {name} shows them)",
            )
        else:
            said = os.strerror(number) if number else "unknown error"
            self._problem(path, f"{name} can't be used: {said}", "correct the path")

    def _here(self) -> bool:
        """Whether the working directory is there, for a process stays in one that has been removed."""
        command = self._app.command
        if not self._lost or (command is not None and (command[0].startswith("/") or "/" not in command[0])):
            return True
        key = label(self._source, "app.directory")
        text = "is not set, and the working directory of this process does not exist any more"
        self._problem("app.directory", text, f"cd to one that does, or say {key}")
        return False

    def _directory(self, name: str) -> bool:
        status = self._stat("app.directory", name)
        if status is None:
            return False
        if not stat.S_ISDIR(status.st_mode):
            parent = str(Path(name).parent)
            self._problem("app.directory", f"{name} is not a directory", f'say the folder, as "{parent}"')
            return False
        # Python lists the folder to import from it; a command, or Node, only has to enter it.
        need, bits = os.R_OK | os.X_OK, "rx"
        if self._app.command is not None or self._is_node:
            need, bits = os.X_OK, "x"
        if not self._sure("run", "command"):
            need, bits = os.X_OK, "x"
        if os.access(name, need):
            return True
        home = hiding.home_of(name)
        if home and self._in_unit and hiding.is_sealed(home):
            self._invisible("app.directory", name, errno.EACCES)
            return False
        self._problem(
            "app.directory",
            f"{name} may not be {'entered' if bits == 'x' else 'read'} by uid {os.geteuid()}",
            f"chmod o+{bits} {name}, or run as a user who may (user in [service])",
        )
        return False

    def _program(self, path: str, name: str) -> None:
        status = self._stat(path, name)
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            inner = Path(name) / "bin" / "python"
            is_environment = path == "app.python" and os.path.exists(inner)  # noqa: PTH110  see _interpreter
            self._problem(
                path,
                f"{name} is a directory",
                f'say "{inner}"' if is_environment else "say the program in it",
            )
        elif not stat.S_ISREG(status.st_mode):
            self._problem(path, f"{name} is not a program", "correct the path")
        elif not os.access(name, os.X_OK):
            self._problem(path, f"{name} may not be executed by uid {os.geteuid()}", f"chmod a+x {name}")
        else:
            self._interpreter(path, name)

    def _interpreter(self, path: str, name: str) -> None:
        """A script whose "#!" names nothing fails with the script's own name: execve(2) says no more."""
        try:
            with Path(name).open("rb") as file:
                first = file.readline(256)
        except OSError:
            return
        if not first.startswith(b"#!") or not first[2:].split():
            return
        interpreter = os.fsdecode(first[2:].split()[0])
        # Not Path.exists(), which raises PermissionError until Python 3.12 where a folder on the way is closed.
        if not interpreter.startswith("/") or os.path.exists(interpreter):  # noqa: PTH110
            return
        home = hiding.home_of(interpreter)
        if home and self._in_unit and hiding.is_sealed(home):
            says, todo = hiding.message(interpreter, home, self._unit), hiding.remedy(interpreter, self._unit)
            self._problem(path, f"{name} is a script for {interpreter}: {says}", todo)
            return
        says = f"{name} is a script for {interpreter}, which does not exist or may not be reached"
        self._problem(path, says, "mend its first line")

    def _command(self, path: str, name: str, *, folder_fine: bool) -> None:
        if "/" in name:
            if name.startswith("/") or (folder_fine and self._sure("directory")):
                self._program(path, os.path.join(self._base, name))  # noqa: PTH118  keeps "./" as it is
            return
        search = self._environment.get("PATH", os.defpath)
        if self._sure("environment") and shutil.which(name, path=search) is None:
            self._problem(
                path,
                f"there is no program {name} in PATH ({search})",
                "install it, or say its whole path",
            )

    def _sockets(self, command: Sequence[str]) -> None:
        path = unlinks(command, self._environment) if self._sure("command", "environment") else None
        if path is not None:
            says = (
                f"FPM_SOCKETS names {path}; php-fpm removes that file when a worker ends, and then clients reach no "
                "other worker"
            )
            self._problem(
                "app.environment",
                says,
                "use any name that is not a path, as 127.0.0.1:9000=3: php-fpm does not listen there",
            )

    def _module(self, target: str) -> None:
        added = self._environment.get("PYTHONPATH", "").split(":")
        folders = (self._base, *(os.path.join(self._base, folder) for folder in added if folder))  # noqa: PTH118
        ours = self._app.python is None and not self._file_may_add_paths()
        wrong = missing_module(target.partition(":")[0], folders, ours=ours)
        if wrong is None:
            return
        home = next((h for folder in folders if (h := hiding.home_of(folder))), None)
        if home and self._in_unit and hiding.is_sealed(home):
            says, todo = hiding.message(self._base, home, self._unit), hiding.remedy(self._base, self._unit)
            self._problem("app.run", says, todo)
            return
        says = label(self._source, "app.directory")
        plain = without_suffix(target)
        remedy = (
            f'say "{plain}": a module has no suffix'
            if plain
            else f"correct the name, or {says}"
            if self._app.directory
            else f"say in {says} which folder holds the module"
        )
        self._problem("app.run", wrong, remedy)

    def _file_may_add_paths(self) -> bool:
        """The unit reads /etc/memunit/INSTANCE.env; from a shell, what it says of PYTHONPATH is not known."""
        if self._unit is not None or self._source == COMMAND_LINE:
            return False
        try:
            return b"PYTHONPATH" in Path(self._source).with_suffix(".env").read_bytes()
        except (OSError, ValueError):
            return False
