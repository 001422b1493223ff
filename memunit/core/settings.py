"""An instance's settings: what /etc/memunit/<instance>.toml or the flags of `memunit run` say, checked.

Sizes are bytes, times are seconds; None and `math.inf` mean no bound. The keys are listed in schema.py.
"""

import math
from collections.abc import Mapping
from typing import Any

from memunit.core.address import Address
from memunit.core.problems import COMMAND_LINE, Problem, SettingsError
from memunit.core.schema import BY_PATH, KEYS, SCRIPT, TABLES, Key
from memunit.core.settings_rules import check_rules
from memunit.core.settings_texts import ValueProblem, nearest, shown
from memunit.core.settings_values import convert
from memunit.records import dataclass, field

__all__ = [
    "COMMAND_LINE",
    "App",
    "Examine",
    "Http",
    "Interface",
    "Memory",
    "Parsed",
    "Problem",
    "Service",
    "Settings",
    "SettingsError",
    "Socket",
    "Stop",
    "Workers",
    "examine",
    "parse",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What a worker is: `run` under `server`, or `command`; never both, never neither."""

    run: str | None = None
    command: tuple[str, ...] | None = None
    server: str = "asgi"
    threads: int = 8
    python: str | None = None
    node: str | None = None
    directory: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    access_log: bool = False
    preload: bool | str = "auto"
    after_fork: str | None = None
    before_stop: str | None = None
    give_back: str | None = None
    ready: str = "notify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """Where to listen; empty where the .socket unit or whoever starts `memunit run` decides.

    `mode`, `user` and `group` are those of the files of Unix sockets, None for what the system makes them.
    """

    listen: tuple[Address, ...] = ()
    mode: int | None = None
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many workers, and their times in seconds. `count` None is "auto": the CPUs this unit may use.

    `surge` 0 is allowed: the old worker then always stops before its replacement starts. A `watchdog` of 0 is
    infinite, as in systemd.
    """

    count: int | None = None
    surge: int = 1
    start_timeout: float = 30.0
    watchdog: float = 30.0
    min_lifetime: float = 10.0
    max_age: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The bounds in bytes, None for none; `patience` and `interval` in seconds.

    `limit` and `ceiling` are those of one worker, `total` that of the instance: None for one that follows from the
    ceiling, infinite for none.
    """

    limit: int | None = None
    ceiling: int | None = None
    total: int | float | None = None
    patience: float = 2.0
    metric: str = "auto"
    interval: float = 1.0
    give_back: bool | str = "auto"
    allocator: str = "system"

    @property
    def measured(self) -> str:
        """What counts: "cgroup", which is uss where there are no groups, "uss", "pss" or "rss"; "auto" is cgroup."""
        return "cgroup" if self.metric == "auto" else self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """What a client may take of an ASGI or WSGI worker: bytes, None for no bound, and seconds."""

    head_size: int = 64 << 10
    head_timeout: float = 10.0
    body_size: int | None = None
    body_timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """`grace`: seconds from `signal`, by which a worker is told to stop, to SIGKILL."""

    grace: float = 30.0
    signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """What a worker that is replaced for its memory may take to find what grew: seconds, 0 for none, and bytes.

    `command` is run against a worker that can't do it itself, with the same bounds.
    """

    command: tuple[str, ...] | None = None
    time: float = 2.0
    memory: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """How many bytes of the runtime directory the flight recorder may take; 0 for none."""

    size: int = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Who may call the master's interface beside root and the service's user: by name or number, None for nobody."""

    read_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What systemd is told of the service, by memunit-generator(8). `watchdog`: seconds, of the master.

    `user` DYNAMIC is a dynamic user of this instance alone, None one that all such instances share. A path of
    `environment_files` and `writable` that need not exist begins with "-".
    """

    user: str | None = None
    group: str | None = None
    environment_files: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    writable: tuple[str, ...] = ()
    umask: int = 0o077
    network: str = "internet"
    watchdog: float = 30.0


DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One instance's settings, in the shape of its file."""

    app: App
    socket: Socket = Socket()
    workers: Workers = Workers()
    memory: Memory = Memory()
    http: Http = Http()
    stop: Stop = Stop()
    examine: Examine = Examine()
    recorder: Recorder = Recorder()
    interface: Interface = Interface()
    service: Service = Service()


@dataclass(frozen=True, slots=True)
class Parsed:
    """Settings, and what a person should hear about them.

    With `problems` they can't be used, but what is not in `doubtful` can still be judged: those are the paths of the
    keys that may mean something else than what is in `settings`, which for most is the default.
    """

    settings: Settings
    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubtful: frozenset[str] = frozenset()


def label(source: str, path: str) -> str:
    """How a key is named to whoever wrote it: "memory.limit" in a file, "--limit" on the command line."""
    if source != COMMAND_LINE:
        return path
    option = BY_PATH[path].option if path in BY_PATH else path
    return "COMMAND" if option == "--" else option or path


# To look for what each was meant to be takes a millisecond, and a file of 1 MiB can have a hundred thousand.
_MOST_UNKNOWN = 20


def parse(document: Mapping[str, Any], source: str) -> Parsed:
    """As examine(), but raises SettingsError with all that is wrong."""
    parsed = examine(document, source)
    if parsed.problems:
        raise SettingsError(parsed.problems)
    return parsed


def examine(document: Mapping[str, Any], source: str, *, in_unit: bool | None = None) -> Parsed:
    """Read a document in the shape of an instance's file, as tomllib gives it.

    `source` is the file's path, or COMMAND_LINE, and begins every error. `in_unit` is whether it is for
    memunit@.service, as each file is unless said.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    unusable: set[str] = set()
    missed: set[str] = set()
    complete = True
    unknown = 0
    for table, content in document.items():
        if table not in TABLES:
            complete = False
            missed |= BY_PATH.keys()
            unknown += 1
            if unknown <= _MOST_UNKNOWN:
                problems.append(_unknown_table(source, table, content))
        elif not isinstance(content, Mapping):
            complete = complete and table != "app"
            missed |= _paths(table)
            remedy = f"write [{table}] on a line of its own, and its keys below"
            problems.append(Problem(source, table, f"{shown(content)} is not a table", remedy))
        else:
            for name, value in content.items():
                path = f"{table}.{name}"
                if path not in BY_PATH:
                    complete = complete and table != "app"
                    missed |= _paths(table)
                    unknown += 1
                    if unknown <= _MOST_UNKNOWN:
                        home = _home_of(name)
                        missed |= {home.path} if home else set()
                        problems.append(_unknown_key(source, table, name))
                    continue
                try:
                    is_script = path == "app.run" and content.get("server") == "node"
                    values[path] = convert(SCRIPT if is_script else BY_PATH[path], value)
                except ValueProblem as error:
                    unusable.add(path)
                    problems += [Problem(source, label(source, path), *fault) for fault in error.faults]
    if unknown > _MOST_UNKNOWN:
        text = f"has {unknown - _MOST_UNKNOWN} more keys and tables that are unknown"
        problems.append(Problem(source, "", text, "see memunit.toml(5)"))
    broken, warnings = check_rules(
        values,
        source,
        label=lambda path: label(source, path),
        unusable=unusable,
        complete=complete,
        in_unit=source != COMMAND_LINE if in_unit is None else in_unit,
    )
    problems += broken
    doubtful = unusable | (missed - values.keys())
    if {"app.run", "app.command"} <= values.keys():
        doubtful |= {"app.run", "app.command"}
    # A default in the place of what was meant would warn of what is not so.
    heard = () if problems else tuple(warnings)
    return Parsed(_assemble(values), heard, tuple(problems), frozenset(doubtful))


def _paths(table: str) -> set[str]:
    return {key.path for key in KEYS if key.table == table}


def _unknown_table(source: str, table: str, content: Any) -> Problem:
    if isinstance(content, Mapping):
        guess = nearest(table, TABLES)
        remedy = (
            f"did you mean [{guess}]?" if guess else f"the tables are {', '.join(f'[{t}]' for t in TABLES)}"
        )
        return Problem(source, f"[{_short(table)}]", "unknown table", remedy)
    home = _home_of(table)
    remedy = (
        f'did you mean "{home.name}" in [{home.table}]?' if home else "every key stands in a table, as [app]"
    )
    return Problem(source, _short(table), "unknown key", remedy)


def _unknown_key(source: str, table: str, name: str) -> Problem:
    names = tuple(key.name for key in KEYS if key.table == table)
    guess, home = nearest(name, names), _home_of(name)
    if home and (home.name == name or not guess):
        remedy = f'did you mean "{home.name}" in [{home.table}]?'
    elif guess:
        remedy = f'did you mean "{guess}"?'
    else:
        remedy = f"the keys of [{table}] are {', '.join(names)}"
    return Problem(source, f"{table}.{_short(name)}", "unknown key", remedy)


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."


def _home_of(name: str) -> Key | None:
    guess = nearest(name, tuple(key.name for key in KEYS))
    return next((key for key in KEYS if key.name == guess), None)


def _assemble(values: Mapping[str, Any]) -> Settings:
    def of(table: str) -> dict[str, Any]:
        return {key.name: values[key.path] for key in KEYS if key.table == table and key.path in values}

    return Settings(
        app=App(**of("app")),
        socket=Socket(**of("socket")),
        workers=Workers(**of("workers")),
        memory=Memory(**of("memory")),
        http=Http(**of("http")),
        stop=Stop(**of("stop")),
        examine=Examine(**of("examine")),
        recorder=Recorder(**of("recorder")),
        interface=Interface(**of("interface")),
        service=Service(**of("service")),
    )
