"""What systemd says about an instance's unit, where there is a systemd to ask."""

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from memunit.records import dataclass, field, replace

_BOUNDS = ("MemoryMax", "MemoryHigh")
_PATHS = (
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
)
_ACCOUNT = ("User", "Group", "SupplementaryGroups", "DynamicUser")
_ROOTS = ("RootDirectory", "RootImage")
_PROPERTIES = (
    *(*_BOUNDS, *_PATHS, *_ACCOUNT, *_ROOTS),
    *(
        "Id",
        "LoadState",
        "ProtectHome",
        "PrivateTmp",
        "ProtectSystem",
        "Slice",
        "EnvironmentFiles",
        "WorkingDirectory",
    ),
)
_UNIT = ("LoadState", "ActiveState", "ActiveEnterTimestampMonotonic", "DropInPaths", "Listen")
_ROOT = "-.slice"
# Of a question to systemd, in seconds: while a machine boots, or is busy, it is answered late.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """`bounds` on its memory in bytes, its own and its slices', each with the words that say whose it is.

    `known` is whether systemd has told at all; `hides_home` is None if it is not known. `said` has each of the
    properties that were asked for, as systemctl(1) prints it.
    """

    known: bool = False
    bounds: tuple[tuple[int, str], ...] = ()
    hides_home: bool | None = None
    said: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


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
    return UnitFacts(known=True, bounds=tuple(_bounds(said)), hides_home=hides_home, said=said)


def parse_properties(text: str) -> dict[str, str]:
    """One block of what `systemctl show` prints; of a list that is printed as lines of their own, all in one."""
    return {name: " ".join(values) for name, values in _parse_lists(text).items()}


def words_of(text: str) -> list[str]:
    """A list as `systemctl show` prints it: a word with blanks or quotes in it stands in double quotes."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def ask(unit: str) -> dict[str, list[str]]:
    """What systemctl(1) tells of where a unit comes from, listens and stands, the lines of each property apart."""
    return _parse_lists(_show(unit, properties=_UNIT))


def _parse_lists(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name, []).append(value)
    return found


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


def _show(*units: str, properties: Sequence[str] = _PROPERTIES) -> str:
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(properties)}", "--", *units]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", "replace") if asked.returncode == 0 else ""
