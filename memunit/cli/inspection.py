"""What only the app's own interpreter can tell, and only the unit's own user may: asked for by `memunit check`.

A process of that interpreter looks (asked.py), and nothing of the app is executed. What it can't tell is not said.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memunit.core.problems import Problem
from memunit.core.settings import Settings
from memunit.records import dataclass

LEAST = (3, 9)
_TIMEOUT = 30.0
_TEXT = Path(__file__).with_name("asked.py")
# Any Python understands it, also one that is far too old for the text itself.
_START = """\
import sys
sys.stdout.write("\\nversion %d.%d\\n" % tuple(sys.version_info[:2]))
text = sys.argv.pop(1)
if sys.version_info[:2] >= {least}:
    exec(compile(text, "asked", "exec"))
"""
# The modules that a worker imports beside the app: the app's environment has to have them.
_NEEDED = {"asgi": ("uvicorn",), "wsgi": ("uvicorn",)}
_OTHER_PYTHON = "set app.python to the interpreter of the app's virtualenv"


@dataclass(frozen=True, slots=True)
class Account:
    """As which user to look: that of the unit, or the owner of the interpreter."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""
    of_unit: bool = False


def inspect(
    settings: Settings,
    source: str,
    *,
    account: Account | None = None,
    unit: str | None = None,
) -> list[Problem]:
    """Problems of the app's interpreter, its modules and their attributes, and of what the unit's user may do.

    `account` is root's to choose.
    """
    return _Inspection(settings, source, account, unit).run()


def owner_of(path: str) -> Account | None:
    """The owner of an interpreter, None for root: root must not execute what another user may have put there."""
    try:
        found = os.lstat(path)  # A virtualenv's interpreter is a link, which is its owner's.
    except OSError:
        return None
    return Account(found.st_uid, found.st_gid) if found.st_uid else None


class _Inspection:
    def __init__(
        self,
        settings: Settings,
        source: str,
        account: Account | None,
        unit: str | None,
    ) -> None:
        self._app = settings.app
        self._source = source
        self._account = account
        self._unit = unit or "the unit"
        # Of the unit or of this shell: more folders to search can only find more.
        self._path = {**os.environ, **settings.app.environment}.get("PYTHONPATH", "")

    def run(self) -> list[Problem]:
        """All problems."""
        app = self._app
        folder = app.directory or "/"
        is_python = app.run is not None and app.server != "node"
        targets = self._targets()
        asked: dict[str, list[str]] = {
            "read": [],
            "enter": [],
            "execute": [],
            "folders": [folder, *(os.path.join(folder, each) for each in self._path.split(":") if each)],  # noqa: PTH118
            "needed": list(_NEEDED.get(app.server, ())) if is_python else [],
            "targets": list(targets),
        }
        if self._account is not None and self._account.of_unit:
            asked["read"] = [self._source, *([app.directory] if app.directory and is_python else [])]
            asked["enter"] = [app.directory] if app.directory else []
            if app.command is not None and "/" in app.command[0]:
                asked["execute"] = [os.path.join(folder, app.command[0])]  # noqa: PTH118  keeps "./" as it is
        given = is_python and app.python is not None
        # For a command, any interpreter can look: that of our virtualenv may be ours alone.
        own = sys.executable if is_python else os.path.realpath(sys.executable)
        python = app.python if given and app.python else own
        answer = self._ask(python, asked, given=given)
        if isinstance(answer, Problem):
            return [answer]
        problems = []
        for kind, *details in answer:
            if kind == "target":
                target, what, *rest = details
                problems.append(
                    self._of_target(targets.get(str(target), "app.run"), str(target), str(what), rest)
                )
            else:
                problems.append(self._of_path(str(kind), str(details[0])))
        return [problem for problem in problems if problem is not None]

    def _targets(self) -> dict[str, str]:
        """The key of each MODULE:ATTRIBUTE. None where variables that only systemd reads may add folders to search."""
        app = self._app
        if app.run is None or app.server == "node" or self._file_may_add_paths():
            return {}
        hooks = {f"app.{name}": getattr(app, name) for name in ("after_fork", "before_stop", "give_back")}
        named = {"app.run": app.run, **hooks}
        return {value: key for key, value in named.items() if value}

    def _file_may_add_paths(self) -> bool:
        file = Path(self._source).with_suffix(".env")
        try:
            return b"PYTHONPATH" in file.read_bytes()
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _ask(self, python: str, asked: Mapping[str, Any], *, given: bool) -> Problem | list[list[Any]]:
        words = [python, "-E", "-c", _START.format(least=LEAST), _TEXT.read_text(), json.dumps(asked)]
        account = self._account
        become: dict[str, Any] = {}
        if account is not None and os.geteuid() == 0:
            become = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
        environment = {"PATH": os.defpath, "HOME": account.home if account else os.environ.get("HOME", "/")}
        try:
            done = subprocess.run(
                words,
                cwd="/",
                env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                **become,
            )
        except PermissionError:
            if not given or account is None or not account.of_unit:
                return []
            text = f"{python} may not be executed by {self._user()}"
            return self._problem(
                "app.python",
                text,
                f"namei -l {os.path.realpath(python)} shows which folder or file shuts that user out",
            )
        except (OSError, subprocess.TimeoutExpired):
            return []
        return self._answer(python, done, given=given)

    def _answer(
        self, python: str, done: subprocess.CompletedProcess[bytes], *, given: bool
    ) -> Problem | list[list[Any]]:
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        versions = [line.removeprefix("version ") for line in lines if line.startswith("version ")]
        if not versions:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            what = f"status {done.returncode}" + (f": {said[0][:200]}" if said else "")
            text = f"{python} does not work as Python does ({what})"
            return (
                self._problem("app.python", text, "make the virtualenv anew, or correct the path")
                if given
                else []
            )
        if tuple(int(part) for part in versions[-1].split(".")) < LEAST:
            least = ".".join(map(str, LEAST))
            text = f"{python} is Python {versions[-1]}, and a worker needs {least} or newer"
            return self._problem("app.python", text, "make the virtualenv with a newer Python")
        with contextlib.suppress(ValueError, IndexError):
            answer = json.loads(lines[-1])
            if isinstance(answer, list):
                return answer
        return []

    def _problem(self, key: str, text: str, remedy: str) -> Problem:
        return Problem(self._source, key, text, remedy)

    def _user(self) -> str:
        account = self._account
        assert account is not None
        return f"the user of {self._unit}" + (f" ({account.name})" if account.name else "")

    def _python(self) -> str:
        return self._app.python or "memunit's own interpreter"

    def _of_path(self, kind: str, path: str) -> Problem | None:
        if kind == "needed":
            pip = (
                f"{self._app.python} -m pip install {path}"
                if self._app.python
                else f"{_OTHER_PYTHON}, or apt install python3-{path}"
            )
            text = f'server "{self._app.server}" needs {path}, which {self._python()} does not have'
            return self._problem("app.server", text, pip)
        if path == self._source:
            secret = Path(self._source).with_suffix(".env")
            remedy = f"chmod 0644 {path}, and what is secret into {secret} with mode 0600"
            return self._problem("", f"may not be read by {self._user()}", remedy)
        verbs = {"read": "read", "enter": "entered", "execute": "executed"}
        key = "app.command" if kind == "execute" else "app.directory"
        text = f"{path} may not be {verbs[kind]} by {self._user()}"
        return self._problem(
            key,
            text,
            f"namei -l {path} shows which folder or file shuts that user out; or set user in [service] to one that may",
        )

    def _of_target(self, key: str, target: str, what: str, details: Sequence[Any]) -> Problem | None:
        module = target.partition(":")[0]
        folder = self._app.directory or "/"
        first = str(details[0]) if details else ""
        if what == "missing":
            if details[1]:
                text = f"there is no module {first}: {details[1]} has no module of that name"
                return self._problem(key, text, "correct the name")
            text = f"there is no module {first} in {folder}, nor among those of {self._python()}"
            return self._problem(
                key, text, "correct the name, correct app.directory, or install the app there"
            )
        if what == "no package":
            text = f"{first} is a module and not a package, so it has no {details[1]}"
            return self._problem(key, text, "correct the name")
        if what == "syntax":
            return self._problem(
                key, f"{first} line {details[1]} is no Python: {details[2]}", "correct the line"
            )
        if what == "imports":
            text = f"{module} line {details[1]} imports {first}, which {self._python()} does not have"
            pip = f"{self._app.python} -m pip install" if self._app.python else f"{_OTHER_PYTHON}, install"
            return self._problem(key, text, f"{pip} the package that has it, or correct app.directory")
        if what == "attribute":
            known = [str(each) for each in details[2:]]
            remedy = f'say "{module}:{known[0]}"' if known else "say which object of it is the app"
            return self._problem(key, f'{first} has no "{details[1]}"', remedy)
        if what == "unreadable" and self._account is not None and self._account.of_unit:
            text = f"{first} may not be read by {self._user()}"
            return self._problem(
                key, text, f"namei -l {first} shows which folder or file shuts that user out"
            )
        return None
