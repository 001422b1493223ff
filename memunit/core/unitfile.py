"""An instance's settings as drop-ins for its units: text for systemd's parser (systemd.syntax(7)), and nothing else.

A value is escaped for the parser of its key, which differ: a path of ListenStream= is the rest of the line, one of
ReadWritePaths= a word in quotes, and an argument of ExecStartPre= a word in which $ and \\ mean something as well.
Everywhere % begins a specifier. settings_unit.py has refused what none of these can say.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from memunit.core.address import LOCALHOST, Address
from memunit.core.budget import OWN
from memunit.core.quantity import exact_size, format_time
from memunit.core.settings import DYNAMIC, Memory, Parsed, Service, Settings, Socket
from memunit.records import dataclass

# What the master needs after the last worker's grace.
_AFTER_GRACE = 30.0
# systemd's rule for the name of a dynamic user (systemd.exec(5)).
_DYNAMIC_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_MOST_SAID = 20
_HEADER = (
    '# memunit-generator(8) writes this from {source} at each "systemctl daemon-reload".\n'
    "# Change that file, not this one. A drop-in in /etc/systemd/system/{unit}.d/ is read later, and wins.\n"
)

Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropIns:
    """For each unit the lines that each key of the file has become, by the key's path."""

    socket: Mapping[str, Lines]
    service: Mapping[str, Lines]

    def of(self, kind: str) -> Mapping[str, Lines]:
        """Those of one unit."""
        return self.socket if kind == "socket" else self.service


def unusable(parsed: Parsed) -> bool:
    """Whether it is open what systemd should be told: a key of [socket] or [service] has a problem, or may have one."""
    keys = {*parsed.doubtful, *(problem.key for problem in parsed.problems)}
    return any(key.strip("[]").partition(".")[0] in ("socket", "service") for key in keys)


def drop_ins(parsed: Parsed, instance: str, processors: int, *, ipv6: bool = True) -> DropIns:
    """What systemd has to know of these settings, of which none of [socket] and [service] may be `unusable`.

    `processors` is how many workers "auto" can be at most; `ipv6` whether the machine knows IPv6: where it does not,
    localhost is 127.0.0.1 alone.
    """
    settings = parsed.settings
    service = dict(_service(settings.service, instance))
    service |= _bounds(settings, parsed.doubtful, processors)
    if "interface.read_group" not in parsed.doubtful:
        service |= _readers(settings)
    return DropIns(dict(_socket(settings.socket, ipv6)), service)


def written(lines: Mapping[str, Lines], kind: str, instance: str, source: str) -> str:
    """The text of a drop-in, "" where there is nothing to say."""
    if not lines:
        return ""
    said = "".join(
        f"# {source}: {key}\n" + "".join(f"{line}\n" for line in each) for key, each in lines.items()
    )
    return f"{_header(kind, instance, source)}\n[{kind.title()}]\n{said}"


def read(text: str, source: str) -> dict[str, Lines]:
    """The lines of each key of what written() has made, and of nothing else."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in text.splitlines():
        if line.startswith(f"# {source}: "):
            key = line.removeprefix(f"# {source}: ")
            found[key] = []
        elif key and not line.startswith("#"):
            found[key].append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def refused(problems: Sequence[str], instance: str, source: str) -> str:
    """The drop-in of a .socket unit whose start fails, and says why: nothing else is there to listen by."""
    remedy = f"Mend {source}, then systemctl daemon-reload and systemctl start memunit@{instance}.socket"
    words = " ".join(argument(line) for line in (*_shortened(problems), remedy))
    lines = (
        f"SyslogIdentifier=memunit@{percent(instance)}",
        # 78 is EX_CONFIG, which systemd names "CONFIG".
        rf"""ExecStartPre=/bin/sh -c "printf '%%s\\n' \"$$@\" >&2; exit 78" memunit {words}""",
    )
    header = _header("socket", instance, source)
    return f"{header}{_comments(problems)}\n[Socket]\n" + "".join(f"{line}\n" for line in lines)


def kept(text: str, problems: Sequence[str]) -> str:
    """A drop-in that was written before the file became unusable, with a note that says so."""
    note = "# That file can't be used now. What follows is what it said before:\n"
    head, gap, rest = text.partition("\n\n")
    return f"{head}\n{note}{_comments(problems)}{gap and chr(10)}{rest}"


def default_socket(instance: str) -> str:
    """Where memunit@.socket listens."""
    return f"/run/memunit/{instance}.sock"


def listening(socket: Socket, instance: str) -> list[str]:
    """Where the .socket unit listens, in the notation that systemd shows."""
    return [str(place) for address in socket.listen for place in address.places] or [default_socket(instance)]


def user_of(service: Service, instance: str) -> str | None:
    """The name of the user, also of a dynamic one of its own; None for the one that instances share."""
    return _own_user(instance) if service.user == DYNAMIC else service.user


def memory_max(settings: Settings, processors: int) -> int | None:
    """The bound of all that the unit has, in bytes; None for none.

    Without a word about it, it is what the workers can have at their ceiling, with surge, and one more for the process
    that forks them: no bound that a healthy instance meets, but one that keeps it from the rest of the machine. Always
    one more than the workers: the one that is at its ceiling is to be killed for that, and not for the whole.
    """
    memory: Memory = settings.memory
    if memory.total is not None:
        return None if math.isinf(memory.total) else int(memory.total)
    if memory.ceiling is None:
        return None
    count, surge = settings.workers.count or processors, settings.workers.surge
    forks = (
        settings.app.run is not None and settings.app.preload is not False and settings.app.server != "node"
    )
    return (count + max(1, surge + forks)) * memory.ceiling + OWN


def _socket(socket: Socket, ipv6: bool) -> Iterator[tuple[str, Lines]]:
    if socket.listen:
        places = [each for address in socket.listen for each in _places(address, ipv6)]
        lines = ["ListenStream=", *(f"ListenStream={percent(place)}" for place in places)]
        if any(address.host == "::" for address in socket.listen):
            # Whatever net.ipv6.bindv6only is: IPv4 too, as memunit run does it.
            lines.append("BindIPv6Only=both")
        yield "socket.listen", tuple(lines)
    if socket.mode is not None:
        yield "socket.mode", (f"SocketMode={socket.mode:04o}",)
    if socket.user is not None:
        yield "socket.user", (f"SocketUser={percent(socket.user)}",)
    if socket.group is not None:
        yield "socket.group", (f"SocketGroup={percent(socket.group)}",)


def _places(address: Address, ipv6: bool) -> list[str]:
    """A bare port is what systemd listens on without IPv6 too; "[::]:PORT" is not."""
    if address.host == "::":
        return [str(address.port)]
    some = [each for each in address.places if ipv6 or address.host != LOCALHOST or ":" not in each.host]
    return [str(each) for each in some]


def _service(service: Service, instance: str) -> Iterator[tuple[str, Lines]]:
    if service.user == DYNAMIC:
        yield "service.user", (f"User={_own_user(instance)}",)
    elif service.user is not None:
        # RemoveIPC=yes would remove what other services of the same user have.
        yield "service.user", ("DynamicUser=no", f"User={percent(service.user)}", "RemoveIPC=no")
    if service.group is not None:
        yield "service.group", (f"Group={percent(service.group)}",)
    if service.environment_files:
        yield (
            "service.environment_files",
            tuple(f"EnvironmentFile={percent(path)}" for path in service.environment_files),
        )
    if service.credentials:
        yield (
            "service.credentials",
            tuple(f"LoadCredential={name}:{percent(path)}" for name, path in service.credentials.items()),
        )
    if service.writable:
        yield "service.writable", tuple(f"ReadWritePaths={_quoted(path)}" for path in service.writable)
    if service.umask != Service().umask:
        yield "service.umask", (f"UMask={service.umask:04o}",)
    if service.network == "local":
        # The sockets that the service inherits are not of its network: TCP ones serve on. No IPAddressDeny=, which has
        # nothing left to forbid.
        lines = ("PrivateNetwork=yes", "RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX")
        yield "service.network", lines
    if service.watchdog != Service().watchdog:
        yield "service.watchdog", (f"WatchdogSec={_time(service.watchdog)}",)


def _bounds(settings: Settings, doubtful: Set[str], processors: int) -> dict[str, Lines]:
    """What other keys have to do with the unit, as far as they are beyond doubt."""
    found: dict[str, Lines] = {}
    unsure = {"memory.ceiling", "memory.total", "workers.count", "workers.surge"} & doubtful
    most = None if unsure else memory_max(settings, processors)
    if most is not None:
        found["memory.total" if settings.memory.total is not None else "memory.ceiling"] = (
            f"MemoryMax={exact_size(most)}",
        )
    if "stop.grace" not in doubtful:
        # Of a stop in which the master is dead: a living one asks for grace itself.
        found["stop.grace"] = (f"TimeoutStopSec={_time(settings.stop.grace + _AFTER_GRACE)}",)
    return found


def _readers(settings: Settings) -> dict[str, Lines]:
    """The kernel tells the master the groups of a caller in the numbers of the master's user namespace.

    In one of its own (PrivateUsers=yes) all groups but root's and the service's are the same there: 65534. Nobody but
    root can reach the interface of a dynamic user: for that nothing is given up.
    """
    static = settings.service.user not in (None, DYNAMIC)
    if settings.interface.read_group is None or not static:
        return {}
    return {"interface.read_group": ("PrivateUsers=no",)}


def _own_user(instance: str) -> str:
    """A name for the dynamic user of one instance, whatever the instance's is."""
    name = f"memunit-{instance}"
    if _DYNAMIC_NAME.fullmatch(name):
        return name
    from hashlib import sha256  # noqa: PLC0415  loads OpenSSL, which a generator has no time for

    return f"memunit-{sha256(instance.encode()).hexdigest()[:16]}"


def _time(seconds: float) -> str:
    """systemd takes "infinity" as never for each of these times, and 0 too."""
    return "infinity" if math.isinf(seconds) else format_time(seconds)


def percent(text: str) -> str:
    """The text with no specifier in it (systemd.unit(5), SPECIFIERS)."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """A word of a list: each quote stands in quotes of the other kind, for there are no backslashes."""
    parts = re.split('(")', percent(text))
    return "".join("'\"'" if part == '"' else f'"{part}"' for part in parts if part)


def argument(text: str) -> str:
    """A word of a command line (systemd.service(5), COMMAND LINES): unprintable characters become "?"."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    for special, instead in (("\\", "\\\\"), ('"', '\\"'), ("$", "$$")):
        plain = plain.replace(special, instead)
    return f'"{percent(plain)}"'


def _header(kind: str, instance: str, source: str) -> str:
    return _HEADER.format(source=source, unit=f"memunit@{instance}.{kind}")


def _comments(problems: Sequence[str]) -> str:
    return "".join(f"#   {line}\n" for line in _shortened(problems))


def _shortened(problems: Sequence[str]) -> Iterable[str]:
    """A file of a mebibyte can have a hundred thousand problems."""
    shown = [line.replace("\n", " ")[:1000] for line in problems[:_MOST_SAID]]
    more = len(problems) - _MOST_SAID
    return [*shown, f"and {more} more; see memunit check"] if more > 0 else shown
