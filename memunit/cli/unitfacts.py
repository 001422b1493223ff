"""What systemd says about an instance's unit, where there is a systemd to ask."""

import subprocess
from dataclasses import dataclass

_PROPERTIES = ("LoadState", "MemoryMax", "ProtectHome")
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """`memory_max` in bytes, None for none or not known; `hides_home` None if it is not known."""

    memory_max: int | None = None
    hides_home: bool | None = None


def unit_facts(unit: str) -> UnitFacts:
    """Ask systemctl(1); nothing is known where it is missing, fails, or does not know the unit."""
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", unit]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return UnitFacts()
    return parse_facts(asked.stdout.decode("utf-8", "replace")) if asked.returncode == 0 else UnitFacts()


def parse_facts(text: str) -> UnitFacts:
    """The lines NAME=VALUE of `systemctl show`."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if said.get("LoadState") != "loaded":
        return UnitFacts()
    most = said.get("MemoryMax", "")
    return UnitFacts(
        memory_max=int(most) if most.isascii() and most.isdigit() and len(most) < 19 else None,
        hides_home=said["ProtectHome"] == "yes" if "ProtectHome" in said else None,
    )
