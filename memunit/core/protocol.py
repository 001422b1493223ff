"""The datagrams of sd_notify(3), decoded."""

from dataclasses import dataclass

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


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:400]


def _usec(text: str) -> float | None:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text) / USEC
    return None
