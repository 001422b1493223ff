"""What is to be said of the settings of an instance, or of a file: what `memunit check` prints."""

import contextlib
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memunit.cli import hiding, nodejs, readers
from memunit.cli.files import load_file, named_path
from memunit.cli.generated import Generated, missing, without_again
from memunit.cli.importing import run_import
from memunit.cli.inspection import Account, inspect, owner_of
from memunit.cli.preflight import preflight
from memunit.cli.room import budget_of, budget_problem, within_total
from memunit.cli.start import is_node
from memunit.cli.summary import summary
from memunit.cli.unitfacts import UnitFacts, unit_facts
from memunit.cli.unitview import UnitView
from memunit.core.budget import Budget
from memunit.core.commands import configuration_of, shlex_split, warnings_of
from memunit.core.graceful import warnings_of_signal
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Settings
from memunit.master.sampling import Bound, memory_available
from memunit.records import dataclass
from memunit.worker.options import useless

_CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Result:
    """What a check has found. `summary` is what is in effect, empty where the file can't be used."""

    file: str
    problems: Sequence[Problem]
    warnings: Sequence[Problem]
    summary: Sequence[str]
    instance: str | None = None


def looked_at(what: str, *, imports: bool = False) -> Result:
    """All that can be said of the settings of an instance, or of a file."""
    try:
        instance, path = named_path(what)
    except SettingsError as error:
        return Result(what, error.problems, (), ())
    try:
        parsed = load_file(path)
    except SettingsError as error:
        return Result(str(path), error.problems, (), (), instance)
    unit = None if instance is None else f"memunit@{instance}.service"
    facts = UnitFacts() if unit is None else unit_facts(unit)
    room = within_total(_room(facts), parsed.settings, str(path))
    budget = budget_of(parsed.settings, room.total, room.source, parsed.doubtful)
    source = str(path)
    view = None if unit is None or not facts.known else UnitView(unit, facts.said)
    problems = [*parsed.problems, *preflight(parsed.settings, source, doubtful=parsed.doubtful)]
    told = [*missing(parsed.settings, source)]
    problems += told
    if view is not None:
        problems += [*without_again(list(view.problems()), told), *view.hidden(parsed.settings, source)]
    account = _account(parsed.settings, view)
    if not parsed.doubtful and not any(problem.key.startswith("app.") for problem in problems):
        problems += inspect(parsed.settings, source, account=account, unit=unit)
    too_small = budget_problem(budget, source)
    if too_small is not None:
        problems.append(too_small)
    units = None if instance is None or not facts.known else Generated(instance, parsed, source)
    warnings = [*parsed.warnings, *(units.warnings() if units is not None else ())]
    warnings += [*_later(parsed.settings, source, budget, facts, unit, account)]
    if is_node(parsed.settings):
        environment = {**os.environ, **parsed.settings.app.environment}
        if not problems:
            problems += nodejs.problems(parsed.settings, source, environment, account)
        warnings += nodejs.warnings(parsed.settings, source, environment)
    imported = ""
    if imports and parsed.settings.app.command is not None:
        problems.append(
            Problem(source, "app.command", "a command is not imported", "check it without --import")
        )
    elif imports and is_node(parsed.settings):
        problems.append(
            Problem(source, "app.run", "a Node program is not imported", "check it without --import")
        )
    elif imports and not problems:
        found = run_import(parsed.settings, source, account)
        problems += found.problems
        warnings += found.warnings
        imported = found.summary
    listen = units.listen() if units is not None else []
    lines = [] if problems else summary(parsed.settings, path, budget, listen)
    lines += [f"  import   {imported}"] if imported and not problems else []
    return Result(source, problems, warnings, lines, instance)


def _account(settings: Settings, view: UnitView | None) -> Account | None:
    """As whom to look. Root looks as the unit's user does, and executes nothing that another user may have changed."""
    if os.geteuid() != 0:
        return None
    account = None if view is None else view.account()
    return account or owner_of(settings.app.python or settings.app.node or sys.executable)


def _room(facts: UnitFacts) -> Bound:
    """The tightest of what bounds the unit, where it is known; what bounds the shell is not among it.

    Of the cgroup tree the unit has the root in common with us, and in a container that has the container's bounds.
    """
    if not facts.known:
        return memory_available()
    machine = memory_available(cgroup=os.devnull)
    found = [(machine.total, machine.source)] if machine.total > 0 else []
    found += facts.bounds
    for name in ("memory.max", "memory.high"):
        # Not there in the root of a machine, and "max" where nothing bounds it.
        with contextlib.suppress(OSError, ValueError):
            found.append((int(Path(_CGROUP, name).read_text()), f"{name} of /"))
    total, source = min(found, key=lambda each: each[0], default=(0, machine.source))
    return Bound(total, total, source)


def _later(
    settings: Settings,
    source: str,
    budget: Budget,
    facts: UnitFacts,
    unit: str | None,
    account: Account | None,
) -> list[Problem]:
    """What is no problem here, but may be one for the unit."""
    found = []
    if settings.app.run is not None and settings.app.server in ("asgi", "wsgi"):
        for variable, instead in useless(settings.app.environment).items():
            key = f"app.environment.{variable}"
            found.append(Problem(source, key, "has no effect", f"use {instead}" if instead else "remove it"))
    found += readers.unreachable(settings, source, facts.said)
    if budget.kind == "no-surge":
        found.append(Problem(source, "memory.limit", budget.text))
    mode = Path(source).stat().st_mode
    # As the user of the unit we have looked ourselves.
    unsure = unit is not None and not (account is not None and account.of_unit)
    if unsure and not mode & stat.S_IROTH:
        text = f"has mode {stat.S_IMODE(mode):04o}, and {unit} may run as a user that can't read it"
        remedy = (
            f"chmod 0644 {source}, and what is secret into {Path(source).with_suffix('.env')} with mode 0600"
        )
        found.append(Problem(source, "", text, remedy))
    if unsure and settings.app.directory is not None:
        shut = _shut(Path(settings.app.directory))
        if shut is not None:
            text = f"{shut} may not be entered by others, and {unit} may run as a user of its own"
            found.append(Problem(source, "app.directory", text, f"chmod o+rx {shut}"))
    found += _of_command(settings, source)
    if facts.hides_home is None:
        app = settings.app
        named = {"directory": app.directory, "python": app.python, "node": app.node}
        named |= {"run": app.run if is_node(settings) else None, "command": (app.command or ("",))[0]}
        name = unit or "memunit@INSTANCE.service"
        for key, path in named.items():
            home = hiding.home_of(path) if path and path.startswith("/") else None
            if path and home:
                text = f"{path} lies under {home}, which ProtectHome=yes hides from {name}"
                found.append(Problem(source, f"app.{key}", text, hiding.remedy(path, name)))
    return found


def _of_command(settings: Settings, source: str) -> list[Problem]:
    """What is known of a server that others have written, by the words of the command."""
    app = settings.app
    if app.command is None:
        return []
    more = {**os.environ, **app.environment}.get("GUNICORN_CMD_ARGS", "")
    configuration = None
    named = configuration_of([*app.command, *shlex_split(more)])
    if named is not None:
        with contextlib.suppress(OSError, ValueError):
            configuration = Path(app.directory or "/", named).read_text()
    told = warnings_of(app.command, app.ready, more=more, configuration=configuration)
    told += warnings_of_signal(app.command, settings.stop.signal)
    return [Problem(source, *each) for each in told]


def _shut(folder: Path) -> Path | None:
    """The first folder on the way there, or it itself, that its owner and group keep to themselves."""
    for each in (*reversed(folder.parents), folder):
        if each.is_dir() and not each.stat().st_mode & stat.S_IXOTH:
            return each
    return None
