"""The one table of all keys: the parser, the flags and the errors for unknown keys are all made from it."""

import enum
from dataclasses import dataclass
from typing import Any


class Kind(enum.Enum):
    """What a key's value is; the text is how an error names it."""

    TARGET = 'an app as in "shop.web:app"'
    WORDS = 'a list of texts as in ["node", "server.js"]'
    PATH = 'an absolute path as in "/srv/shop"'
    CHOICE = "one of a few words"
    MAPPING = 'a table of texts as in { LANG = "C" }'
    BOOLEAN = "true or false, without quotes"
    ADDRESSES = 'a list of addresses as in ["127.0.0.1:8000"]'
    COUNT = 'a whole number from 1 to 1024, or "auto"'
    INTEGER = "a whole number from 0 to 1024"
    SIZE = 'a size as in "400M"'
    TIME = 'a time as in "30s"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of an instance's file.

    `default` is in the file's notation, None where there is none to write. `flag` is its option of `memunit
    run`, "--" for the words after a bare "--". A time lies within `least` and `most` seconds; `endless` says
    that "infinity" is one as well, and `never` that 0 means the same.
    """

    table: str
    name: str
    kind: Kind
    help: str
    default: Any = None
    flag: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    least: float = 0.0
    endless: bool = False
    never: bool = False

    @property
    def path(self) -> str:
        """How errors in a file name it: "memory.limit"."""
        return f"{self.table}.{self.name}"

    @property
    def option(self) -> str:
        """The flag: "--min-lifetime" for min_lifetime unless `flag` says otherwise."""
        return self.flag or "--" + self.name.replace("_", "-")


MOST_WORKERS = 1024
SERVERS = ("asgi", "wsgi", "callable")

KEYS = (
    Key(
        table="app",
        name="run",
        kind=Kind.TARGET,
        flag="--app",
        metavar="MODULE:ATTR",
        help="the app: a module and what in it is the app",
    ),
    Key(
        table="app",
        name="command",
        kind=Kind.WORDS,
        flag="--",
        metavar="COMMAND...",
        help="or a program, that serves on the sockets it inherits (sd_listen_fds(3))",
    ),
    Key(
        table="app",
        name="server",
        kind=Kind.CHOICE,
        choices=SERVERS,
        default="asgi",
        metavar="KIND",
        help="what the app is: asgi, wsgi, or callable: it serves by itself",
    ),
    Key(
        table="app",
        name="threads",
        kind=Kind.INTEGER,
        default=8,
        metavar="N",
        help="how many requests a WSGI worker runs at a time, each in a thread",
    ),
    Key(
        table="app",
        name="python",
        kind=Kind.PATH,
        metavar="PATH",
        help="the app's interpreter; without it, memunit's own",
    ),
    Key(table="app", name="directory", kind=Kind.PATH, metavar="PATH", help="where the workers run"),
    Key(
        table="app",
        name="environment",
        kind=Kind.MAPPING,
        default={},
        metavar="NAME=VALUE",
        help="a variable of the workers' environment",
    ),
    Key(
        table="app",
        name="preload",
        kind=Kind.BOOLEAN,
        default=True,
        help="import the app once, in a process that forks the workers; without: each imports it itself",
    ),
    Key(
        table="app",
        name="after_fork",
        kind=Kind.TARGET,
        metavar="MODULE:ATTR",
        help="a function that each worker calls before it serves, to open what workers can't share",
    ),
    Key(
        table="app",
        name="before_stop",
        kind=Kind.TARGET,
        metavar="MODULE:ATTR",
        help="a function that a worker calls when it is told to stop, while it still accepts",
    ),
    Key(
        table="app",
        name="ready",
        kind=Kind.CHOICE,
        choices=("notify", "exec"),
        default="notify",
        metavar="WHEN",
        help="when a command is ready: at its READY=1 (sd_notify(3)), or once it is executed",
    ),
    Key(
        table="socket",
        name="listen",
        kind=Kind.ADDRESSES,
        default=[],
        metavar="ADDR",
        help="host:port, [v6]:port, port or /path.sock; a file's address is bound by the .socket unit",
    ),
    Key(
        table="workers",
        name="count",
        kind=Kind.COUNT,
        default="auto",
        flag="--workers",
        metavar="N",
        help="how many workers serve; auto: as many as the CPUs there are for them",
    ),
    Key(
        table="workers",
        name="surge",
        kind=Kind.INTEGER,
        default=1,
        metavar="N",
        help="how many more there may be during replacement; 0: the old one stops before the new one starts",
    ),
    Key(
        table="workers",
        name="start_timeout",
        kind=Kind.TIME,
        default="30s",
        least=0.1,
        metavar="TIME",
        help="how long a worker may take until it is ready",
    ),
    Key(
        table="workers",
        name="watchdog",
        kind=Kind.TIME,
        default="30s",
        least=0.1,
        endless=True,
        never=True,
        metavar="TIME",
        help="how long a worker that sends WATCHDOG=1 may be silent; 0 or infinity: for ever",
    ),
    Key(
        table="workers",
        name="min_lifetime",
        kind=Kind.TIME,
        default="10s",
        metavar="TIME",
        help="a worker younger than this is not recycled for the limit",
    ),
    Key(
        table="workers",
        name="max_age",
        kind=Kind.TIME,
        default="infinity",
        least=1.0,
        endless=True,
        metavar="TIME",
        help="a worker older than this is recycled",
    ),
    Key(
        table="memory",
        name="limit",
        kind=Kind.SIZE,
        default="infinity",
        metavar="SIZE",
        help="a worker over this for longer than patience is recycled",
    ),
    Key(
        table="memory",
        name="ceiling",
        kind=Kind.SIZE,
        default="infinity",
        metavar="SIZE",
        help="a worker over this is killed at once",
    ),
    Key(
        table="memory",
        name="patience",
        kind=Kind.TIME,
        default="2s",
        metavar="TIME",
        help="how long a worker may be over the limit: a spike is no leak",
    ),
    Key(
        table="memory",
        name="metric",
        kind=Kind.CHOICE,
        choices=("auto", "cgroup", "uss", "pss", "rss"),
        default="auto",
        metavar="METRIC",
        help="what counts: cgroup (what the kernel charges it), uss (its alone), pss or rss; auto: cgroup, else uss",
    ),
    Key(
        table="memory",
        name="interval",
        kind=Kind.TIME,
        default="1s",
        least=0.01,
        metavar="TIME",
        help="how often memory is measured where the kernel does not tell; and while a worker is over its limit",
    ),
    Key(
        table="stop",
        name="grace",
        kind=Kind.TIME,
        default="30s",
        metavar="TIME",
        help="how long a worker may take to finish its requests before it is killed",
    ),
)

TABLES = tuple(dict.fromkeys(key.table for key in KEYS))
BY_PATH = {key.path: key for key in KEYS}
# What memunit itself says to each worker, or keeps from it: systemd means it for the service's first process alone.
RESERVED_VARIABLES = frozenset(
    {
        "FDSTORE",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "MAINPID",
        "MEMUNIT_GENERATION",
        "MEMUNIT_INSTANCE",
        "MEMUNIT_SLOT",
        "MEMUNIT_THREADS",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
