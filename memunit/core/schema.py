"""The one table of all keys: the parser, the flags and the errors for unknown keys are all made from it."""

import enum
from typing import Any

from memunit.core.stopsignal import STOP_SIGNALS
from memunit.records import dataclass, replace


class Kind(enum.Enum):
    """What a key's value is; the text is how an error names it."""

    TARGET = 'an app as in "shop.web:app"'
    SCRIPT = 'a file as in "server.js"'
    WORDS = 'a list of texts as in ["node", "server.js"]'
    PATH = 'an absolute path as in "/srv/shop"'
    CHOICE = "one of a few words"
    MAPPING = 'a table of texts as in { LANG = "C" }'
    SWITCH = 'true, false or "auto"'
    BOOLEAN = "true or false, without quotes"
    ADDRESSES = 'a list of addresses as in ["127.0.0.1:8000"]'
    COUNT = 'a whole number from 1 to 1024, or "auto"'
    INTEGER = "a whole number from 0 to 1024"
    SIZE = 'a size as in "400M"'
    TIME = 'a time as in "30s"'
    MODE = 'a mode in octal digits as in "0660"'
    ACCOUNT = 'a name or a number as in "www-data"'
    SIGNAL = 'a signal as in "SIGQUIT"'
    TOTAL = 'a size as in "2G", or "auto"'
    PATHS = 'a list of absolute paths as in ["/srv/shop/uploads"]'
    CREDENTIALS = 'a table of paths as in { key = "/etc/shop/key" }'
    MASK = 'a mask in octal digits as in "0027"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of an instance's file.

    `default` is in the file's notation, None where there is none to write. `flag` is its option of `memunit
    run`, "--" for the words after a bare "--"; a key `of_unit` has none, for systemd does what it says. `least` is in
    seconds or bytes; `endless` says that "infinity" is one as well, and `never` that 0 means the same; of a size, that
    0 means nothing at all.
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
    of_unit: bool = False

    @property
    def path(self) -> str:
        """How errors in a file name it: "memory.limit"."""
        return f"{self.table}.{self.name}"

    @property
    def option(self) -> str:
        """The flag: "--min-lifetime" for min_lifetime unless `flag` says otherwise; "" for a key that has none."""
        if self.of_unit:
            return ""
        return self.flag or "--" + self.name.replace("_", "-")


MOST_WORKERS = 1024
SERVERS = ("asgi", "wsgi", "callable", "node")
ALLOCATORS = ("system", "glibc-tight", "jemalloc", "mimalloc")

KEYS = (
    Key(
        table="app",
        name="run",
        kind=Kind.TARGET,
        flag="--app",
        metavar="MODULE:ATTR",
        help="the app: a module and the name of the app in it; for node, the file of the program",
    ),
    Key(
        table="app",
        name="command",
        kind=Kind.WORDS,
        flag="--",
        metavar="COMMAND...",
        help="a program instead of an app; it serves on inherited sockets (sd_listen_fds(3))",
    ),
    Key(
        table="app",
        name="server",
        kind=Kind.CHOICE,
        choices=SERVERS,
        default="asgi",
        metavar="KIND",
        help="the kind of the app: asgi, wsgi, node, or callable (a function that serves by itself)",
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
        help="the app's interpreter; by default memunit's own",
    ),
    Key(
        table="app",
        name="node",
        kind=Kind.PATH,
        metavar="PATH",
        help="the Node that runs a Node program; by default the node in PATH",
    ),
    Key(
        table="app",
        name="directory",
        kind=Kind.PATH,
        metavar="PATH",
        help="the working directory of the workers",
    ),
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
        name="access_log",
        kind=Kind.BOOLEAN,
        default=False,
        help="write a line for each request of an ASGI or WSGI app",
    ),
    Key(
        table="app",
        name="preload",
        kind=Kind.SWITCH,
        default="auto",
        metavar="WHEN",
        help="import the app once, in a process that forks the workers; auto: unless a fork would break something; "
        "false: each worker imports the app itself",
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
        help="a function that a worker calls at the start of its stop, while it still accepts",
    ),
    Key(
        table="app",
        name="give_back",
        kind=Kind.TARGET,
        flag="--give-back-hook",
        metavar="MODULE:ATTR",
        help="a function that a worker calls when memunit asks it to give memory back, to empty its caches",
    ),
    Key(
        table="app",
        name="ready",
        kind=Kind.CHOICE,
        choices=("notify", "exec"),
        default="notify",
        metavar="WHEN",
        help="when a command is ready: when it sends READY=1 (sd_notify(3)), or when it is executed",
    ),
    Key(
        table="socket",
        name="listen",
        kind=Kind.ADDRESSES,
        default=[],
        metavar="ADDR",
        help="host:port, [v6]:port, localhost:port, port, /path.sock or vsock:cid:port; for a unit, systemd listens",
    ),
    Key(
        table="socket",
        name="mode",
        kind=Kind.MODE,
        flag="--socket-mode",
        metavar="MODE",
        help="the mode of the file of a Unix socket; by default 0666; of memunit run 0777 less the umask",
    ),
    Key(
        table="socket",
        name="user",
        kind=Kind.ACCOUNT,
        flag="--socket-user",
        metavar="USER",
        help="the user of the file of a Unix socket; by default root; of memunit run its own user",
    ),
    Key(
        table="socket",
        name="group",
        kind=Kind.ACCOUNT,
        flag="--socket-group",
        metavar="GROUP",
        help="the group of the file of a Unix socket; by default root; of memunit run its own group",
    ),
    Key(
        table="workers",
        name="count",
        kind=Kind.COUNT,
        default="auto",
        flag="--workers",
        metavar="N",
        help="how many workers serve; auto: the number of CPUs that they may use",
    ),
    Key(
        table="workers",
        name="surge",
        kind=Kind.INTEGER,
        default=1,
        metavar="N",
        help="how many more may run during a replacement; 0: the old worker stops before the new one starts",
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
        help="how long a worker that sends WATCHDOG=1 may be silent; 0 or infinity: no watchdog",
    ),
    Key(
        table="workers",
        name="min_lifetime",
        kind=Kind.TIME,
        default="10s",
        metavar="TIME",
        help="a worker younger than this is not recycled because of the limit",
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
        help="a worker that is over this limit for longer than patience is recycled",
    ),
    Key(
        table="memory",
        name="ceiling",
        kind=Kind.SIZE,
        default="infinity",
        metavar="SIZE",
        help="a worker over this ceiling is killed at once",
    ),
    Key(
        table="memory",
        name="total",
        kind=Kind.TOTAL,
        default="auto",
        metavar="SIZE",
        help="the memory of all workers and memunit itself; for a unit MemoryMax=; auto: from the ceiling, if set",
    ),
    Key(
        table="memory",
        name="patience",
        kind=Kind.TIME,
        default="2s",
        metavar="TIME",
        help="how long a worker may be over the limit: a spike is not a leak",
    ),
    Key(
        table="memory",
        name="metric",
        kind=Kind.CHOICE,
        choices=("auto", "cgroup", "uss", "pss", "rss"),
        default="auto",
        metavar="METRIC",
        help="the measure: cgroup (charged by the kernel), uss (its own alone), pss or rss; auto: cgroup, or else uss",
    ),
    Key(
        table="memory",
        name="interval",
        kind=Kind.TIME,
        default="1s",
        least=0.01,
        metavar="TIME",
        help="how often memory is measured if the kernel does not report it, and while a worker is over its limit",
    ),
    Key(
        table="memory",
        name="give_back",
        kind=Kind.SWITCH,
        default="auto",
        metavar="WHEN",
        help="ask a worker at its limit to give memory back, before patience ends; auto: unless the unit says "
        "MemoryPressureWatch=off; false: recycle without asking",
    ),
    Key(
        table="memory",
        name="allocator",
        kind=Kind.CHOICE,
        choices=ALLOCATORS,
        default="system",
        metavar="NAME",
        help="the allocator of the app's interpreter: system, jemalloc, mimalloc, or glibc-tight (two arenas)",
    ),
    Key(
        table="http",
        name="head_size",
        kind=Kind.SIZE,
        default="64K",
        least=1024,
        metavar="SIZE",
        help="how large the head of a request may be, and its trailers (431)",
    ),
    Key(
        table="http",
        name="head_timeout",
        kind=Kind.TIME,
        default="10s",
        least=0.1,
        endless=True,
        metavar="TIME",
        help="how long a client may take for the head of a request, from its first byte (408)",
    ),
    Key(
        table="http",
        name="body_size",
        kind=Kind.SIZE,
        default="infinity",
        least=1024,
        endless=True,
        metavar="SIZE",
        help="how large the body of a request may be (413)",
    ),
    Key(
        table="http",
        name="body_timeout",
        kind=Kind.TIME,
        default="30s",
        least=0.1,
        endless=True,
        metavar="TIME",
        help="how long a worker waits for more of the body of a request (408)",
    ),
    Key(
        table="stop",
        name="grace",
        kind=Kind.TIME,
        default="30s",
        metavar="TIME",
        help="how long a worker may take to finish its requests before it is killed",
    ),
    Key(
        table="stop",
        name="signal",
        kind=Kind.SIGNAL,
        default="SIGTERM",
        flag="--stop-signal",
        metavar="SIGNAL",
        choices=STOP_SIGNALS,
        help="the signal at which a command finishes its requests and ends; SIGQUIT for nginx and php-fpm",
    ),
    Key(
        table="examine",
        name="time",
        kind=Kind.TIME,
        default="2s",
        flag="--examine-time",
        metavar="TIME",
        help="how long a worker that is replaced for its memory may search for what grew; 0: no examination",
    ),
    Key(
        table="examine",
        name="memory",
        kind=Kind.SIZE,
        default="64M",
        flag="--examine-memory",
        least=1 << 20,
        metavar="SIZE",
        help="how much memory that examination may take",
    ),
    Key(
        table="examine",
        name="command",
        kind=Kind.WORDS,
        flag="--examine-command",
        metavar="WORD",
        help="a program that examines a worker of a command or of Node, which is replaced for its memory",
    ),
    Key(
        table="recorder",
        name="size",
        kind=Kind.SIZE,
        default="1M",
        flag="--recorder-size",
        least=64 << 10,
        never=True,
        metavar="SIZE",
        help="how many bytes of recorded facts the runtime directory keeps, for memunit replay; 0: none",
    ),
    Key(
        table="interface",
        name="read_group",
        kind=Kind.ACCOUNT,
        metavar="GROUP",
        help="a group whose members may see the status (memunit status, top) and change nothing; by default none",
    ),
    Key(
        table="service",
        name="user",
        kind=Kind.ACCOUNT,
        of_unit=True,
        help='the user of the app; "dynamic": a user of this instance alone; by default a dynamic user of all',
    ),
    Key(
        table="service",
        name="group",
        kind=Kind.ACCOUNT,
        of_unit=True,
        help="the group of the app; by default the user's own",
    ),
    Key(
        table="service",
        name="environment_files",
        kind=Kind.PATHS,
        default=[],
        of_unit=True,
        help="files of variables, which systemd reads as root; a path that begins with - need not exist",
    ),
    Key(
        table="service",
        name="credentials",
        kind=Kind.CREDENTIALS,
        default={},
        of_unit=True,
        help="files that systemd reads as root and gives to the app in $CREDENTIALS_DIRECTORY",
    ),
    Key(
        table="service",
        name="writable",
        kind=Kind.PATHS,
        default=[],
        of_unit=True,
        help="further paths that the app may write to",
    ),
    Key(
        table="service",
        name="umask",
        kind=Kind.MASK,
        default="0077",
        of_unit=True,
        help="the rights that new files of the app do not get",
    ),
    Key(
        table="service",
        name="network",
        kind=Kind.CHOICE,
        choices=("local", "internet"),
        default="internet",
        of_unit=True,
        help="internet: the app may connect to any address; local: only to Unix sockets of this machine",
    ),
    Key(
        table="service",
        name="watchdog",
        kind=Kind.TIME,
        default="30s",
        least=1.0,
        endless=True,
        never=True,
        of_unit=True,
        help="how long the master may be silent before systemd restarts it; 0 or infinity: no watchdog",
    ),
)

TABLES = tuple(dict.fromkeys(key.table for key in KEYS))
BY_PATH = {key.path: key for key in KEYS}
# What app.run is where the server is "node".
SCRIPT = replace(BY_PATH["app.run"], kind=Kind.SCRIPT)
