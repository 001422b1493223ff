"""`memunit check INSTANCE|FILE`: read the file, look at what it names, and do the sum of the memory.

Exit code 0 if it can be used, perhaps with warnings, 78 (EX_CONFIG) if not, 64 if the command line is wrong.
"""

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memunit.cli import hiding
from memunit.cli.files import instance_path, load_file
from memunit.cli.preflight import budget_of, budget_problem, preflight, worker_count
from memunit.cli.report import print_problems, print_warnings
from memunit.cli.unitfacts import UnitFacts, unit_facts
from memunit.cli.usage import Parser
from memunit.core.budget import Budget
from memunit.core.exitcodes import EX_CONFIG, EX_IOERR, OK
from memunit.core.problems import Problem, SettingsError
from memunit.core.quantity import format_size, format_time
from memunit.core.settings import Settings
from memunit.master.sampling import Headroom, memory_available

_CGROUP = "/sys/fs/cgroup"
_DESCRIPTION = """\
Check the settings of an instance, /etc/memunit/INSTANCE.toml, or of a FILE (a name with a slash or ending in
.toml): the file itself, whether what it names is there, and whether its workers fit in memory.
Starts nothing and imports nothing of the app: a missing attribute of the module is not seen."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    parser = Parser("memunit check", _DESCRIPTION)
    parser.add_argument("what", metavar="INSTANCE|FILE", help="which settings to check")
    what: str = parser.parse_args(arguments).what
    instance = None if "/" in what or what.endswith(".toml") else what
    try:
        path = Path(what) if instance is None else instance_path(instance)
        parsed = load_file(path)
    except SettingsError as error:
        print_problems(error.problems)
        return EX_CONFIG
    unit = None if instance is None else f"memunit@{instance}.service"
    facts = UnitFacts() if unit is None else unit_facts(unit)
    room = _room(facts)
    budget = budget_of(parsed.settings, room.total, room.source, parsed.doubtful)
    source = str(path)
    problems = [*parsed.problems, *preflight(parsed.settings, source, doubtful=parsed.doubtful)]
    too_small = budget_problem(budget, source)
    if too_small is not None:
        problems.append(too_small)
    warnings = [*parsed.warnings, *_later(parsed.settings, source, budget, facts, unit)]
    print_problems(problems)
    print_warnings(warnings)
    if problems:
        return EX_CONFIG
    return _print("".join(f"{line}\n" for line in _summary(parsed.settings, source, budget)))


def _print(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter tries again at its end, and complains at length.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"memunit: the settings are good, but can't be printed: {error.strerror}\n")
        return EX_IOERR
    return OK


def _room(facts: UnitFacts) -> Headroom:
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
    return Headroom(total, total, source)


def _later(
    settings: Settings, source: str, budget: Budget, facts: UnitFacts, unit: str | None
) -> list[Problem]:
    """What is no problem here, but may be one for the unit."""
    found = []
    if budget.kind == "no-surge":
        found.append(Problem(source, "memory.limit", budget.text))
    mode = Path(source).stat().st_mode
    if unit is not None and not mode & stat.S_IROTH:
        text = f"has mode {stat.S_IMODE(mode):04o}, and {unit} may run as a user who can't read it"
        remedy = (
            f"chmod 0644 {source}, and what is secret into {Path(source).with_suffix('.env')} with mode 0600"
        )
        found.append(Problem(source, "", text, remedy))
    if unit is not None and settings.app.directory is not None:
        shut = _shut(Path(settings.app.directory))
        if shut is not None:
            text = f"{shut} may not be entered by others, and {unit} may run as a user of its own"
            found.append(Problem(source, "app.directory", text, f"chmod o+rx {shut}"))
    if facts.hides_home is not False:
        app = settings.app
        named = {"directory": app.directory, "python": app.python, "command": (app.command or ("",))[0]}
        name = unit or "memunit@INSTANCE.service"
        for key, path in named.items():
            home = hiding.home_of(path) if path and path.startswith("/") else None
            if path and home:
                text = f"{path} lies under {home}, which ProtectHome=yes hides from {name}"
                found.append(Problem(source, f"app.{key}", text, hiding.remedy(path, name)))
    return found


def _shut(folder: Path) -> Path | None:
    """The first folder on the way there, or it itself, that its owner and group keep to themselves."""
    for each in (*reversed(folder.parents), folder):
        if each.is_dir() and not each.stat().st_mode & stat.S_IXOTH:
            return each
    return None


def _summary(settings: Settings, source: str, budget: Budget) -> list[str]:
    """What is in effect, defaults and all."""
    app, workers, memory = settings.app, settings.workers, settings.memory
    if app.run is not None:
        how = f"{app.server}, preloaded" if app.preload else app.server
        what = f"{app.run} ({how}), " + (app.python or "memunit's own interpreter")
    else:
        what = f"{shlex.join(app.command or ())} (ready: {app.ready})"
    listen = ", ".join(map(str, settings.socket.listen)) or "what the .socket unit says"
    count = worker_count(settings)
    of_cpus = " (auto: the CPUs of this machine)" if workers.count is None else ""
    watchdog = format_time(workers.watchdog)
    times = (
        f"start_timeout {format_time(workers.start_timeout)}, watchdog {watchdog}, "
        f"min_lifetime {format_time(workers.min_lifetime)}, max_age {format_time(workers.max_age)}"
    )
    metric = "cgroup, or uss" if memory.measured == "cgroup" else memory.measured
    bounds = (
        f"limit {format_size(memory.limit)}, ceiling {format_size(memory.ceiling)}, {metric} "
        f"every {format_time(memory.interval)}, patience {format_time(memory.patience)}"
    )
    return [
        f"{source}: good",
        f"  app      {what}",
        f"  in       {app.directory or 'the working directory of the unit'}",
        f"  listen   {listen}",
        f"  workers  {count}{of_cpus}, surge {workers.surge}, {times}",
        f"  memory   {bounds}",
        f"  stop     grace {format_time(settings.stop.grace)}",
        f"  budget   {budget.text}",
    ]
