"""The datagrams of sd_notify(3), decoded."""

from memunit.core import facts as f
from memunit.core.model import WorkerId
from memunit.records import dataclass

USEC = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One datagram. Unknown fields are passed over, as systemd does; `extend` is in seconds."""

    ready: bool = False
    stopping: bool = False
    watchdog: bool = False
    watchdog_trigger: bool = False
    status: str | None = None
    extend: float | None = None


def parse(payload: bytes) -> Notification:
    """Decode a datagram; never raises, for it comes from a process that may be anything."""
    fields: dict[str, str] = {}
    for line in payload.decode("utf-8", "replace").split("\n"):
        name, separator, value = line.partition("=")
        if separator:
            fields[name] = value
    return Notification(
        ready=fields.get("READY") == "1",
        stopping=fields.get("STOPPING") == "1",
        watchdog=fields.get("WATCHDOG") == "1",
        watchdog_trigger=fields.get("WATCHDOG") == "trigger",
        status=_printable(fields["STATUS"]) if "STATUS" in fields else None,
        extend=_usec(fields.get("EXTEND_TIMEOUT_USEC", "")),
    )


def facts_of(who: WorkerId, payload: bytes) -> list[f.Fact]:
    """What a datagram of this worker means to policy, in the order in which it should be heard."""
    said = parse(payload)
    facts: list[f.Fact] = []
    if said.status is not None:
        facts.append(f.StatusText(who, said.status))
    if said.extend is not None:
        facts.append(f.ExtendTimeout(who, said.extend))
    if said.ready:
        facts.append(f.Ready(who))
    if said.watchdog:
        facts.append(f.Ping(who))
    if said.watchdog_trigger:
        facts.append(f.WatchdogTrigger(who))
    if said.stopping:
        facts.append(f.Stopping(who))
    return facts


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:400]


def _usec(text: str) -> float | None:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text) / USEC
    return None
