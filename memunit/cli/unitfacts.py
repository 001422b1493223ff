"""What systemd says about an instance's unit, where there is a systemd to ask."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_BOUNDS = ("MemoryMax", "MemoryHigh")
_PROPERTIES = (*_BOUNDS, "Id", "LoadState", "ProtectHome", "Slice")
_ROOT = "-.slice"
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """`bounds` on its memory in bytes, its own and its slices', each with the words that say whose it is.

    `known` is whether systemd has told at all; `hides_home` is None if it is not known.
    """

    known: bool = False
    bounds: tuple[tuple[int, str], ...] = ()
    hides_home: bool | None = None


def unit_facts(unit: str) -> UnitFacts:
    """Ask systemctl(1); nothing is known where it is missing, fails, or does not know the unit."""
    said = _show(unit)
    facts = parse_facts(said)
    slices = slices_of(parse_properties(said).get("Slice", ""))
    if not facts.known or not slices:
        return facts
    above = [bound for block in _show(*slices).split("\n\n") for bound in _bounds(parse_properties(block))]
    return replace(facts, bounds=(*facts.bounds, *above))


def parse_facts(text: str) -> UnitFacts:
    """The lines NAME=VALUE of `systemctl show` for the unit."""
    said = parse_properties(text)
    if said.get("LoadState") != "loaded":
        return UnitFacts()
    hides_home = said["ProtectHome"] == "yes" if "ProtectHome" in said else None
    return UnitFacts(known=True, bounds=tuple(_bounds(said)), hides_home=hides_home)


def parse_properties(text: str) -> dict[str, str]:
    """One block of what `systemctl show` prints."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def slices_of(name: str) -> list[str]:
    """The slice and those that hold it, by its name (systemd.slice(5)): a-b.slice lies in a.slice in -.slice."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or suffix != "slice" or not stem:
        return []
    parts = stem.split("-") if name != _ROOT else []
    return [*("-".join(parts[:depth]) + ".slice" for depth in range(len(parts), 0, -1)), _ROOT]


def _bounds(said: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    for name in _BOUNDS:
        value = said.get(name, "")
        # Without a bound it is "infinity", or the biggest number of 64 bits.
        if value.isascii() and value.isdigit() and len(value) < 19:
            yield int(value), f"{name}= of {said.get('Id', 'the unit')}"


def _show(*units: str) -> str:
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *units]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", "replace") if asked.returncode == 0 else ""
