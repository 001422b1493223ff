"""The flight file: a state, and what policy was told from then on, and when. `step` does the same with it again.

A line is JSON. The first is the head. Then comes for each pass [seconds of CLOCK_MONOTONIC, [fact, ...]], written
before `step` is called. After one that wanted something comes a text, the CRC-32 of what it wanted: by that a replay
knows that it wants the same. A last line that is cut off is that of a master that was killed.
"""

import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from memunit.core.actions import Action
from memunit.core.codec import Codec, dumps, parse
from memunit.core.codec_forms import CodecError
from memunit.core.facts import Fact
from memunit.core.state import State
from memunit.records import dataclass

FORMAT = 1


class FlightError(Exception):
    """A file that is no flight file, or one that can't be replayed here; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a file begins with."""

    version: str
    """memunit's."""
    instance: str
    boot: str
    """The kernel's boot_id: CLOCK_MONOTONIC means nothing beyond it."""
    monotonic: float
    realtime: float
    """The same moment by both clocks, in seconds; the second since the epoch."""
    follows: bool
    """Whether the file before this one ends where this one begins."""
    state: State


@dataclass(frozen=True, slots=True)
class Step:
    """One pass: its time in seconds of CLOCK_MONOTONIC, what policy was told, and the CRC-32 of what it wanted.

    `did` is "" for a pass that wanted nothing, and None for one that never came back.
    """

    now: float
    facts: tuple[Fact, ...]
    did: str | None


class FlightCodec:
    """The lines of a file, with their types."""

    def __init__(self) -> None:
        self._state: Codec[State] = Codec(State)
        self._fact: Codec[Fact] = Codec(Fact)
        self._action: Codec[Action] = Codec(Action)
        self.schema = f"{self._state.version}{self._fact.version}{self._action.version}"
        """Of the types; a file of another one can't be read."""

    def head(self, head: Head) -> str:
        """The first line."""
        data = {
            "flight": FORMAT,
            "memunit": head.version,
            "schema": self.schema,
            "instance": head.instance,
            "boot": head.boot,
            "monotonic": head.monotonic,
            "realtime": head.realtime,
            "follows": head.follows,
            "state": self._state.encode(head.state),
        }
        return dumps(data) + "\n"

    def facts(self, now: float, facts: Sequence[Fact]) -> str:
        """The line of a pass that begins."""
        return dumps([now, list(map(self._fact.encode, facts))]) + "\n"

    def did(self, actions: Iterable[Action]) -> str:
        """The line of what it wanted, or "" for nothing."""
        mark = self.mark(actions)
        return f'"{mark}"\n' if mark else ""

    def mark(self, actions: Iterable[Action]) -> str:
        """By what the wants of two passes are known to be the same."""
        data = list(map(self._action.encode, actions))
        return f"{binascii.crc32(dumps(data).encode()):08x}" if data else ""

    def parse_head(self, line: str) -> Head:
        """Raises FlightError."""
        try:
            data = parse(line)
        except CodecError as error:
            raise FlightError(f"is no flight file ({error})") from None
        if not isinstance(data, dict) or "flight" not in data:
            raise FlightError("is no flight file")
        if data["flight"] != FORMAT or data.get("schema") != self.schema:
            raise FlightError(
                f"was written by another memunit, {data.get('memunit', 'an unknown one')}, whose states differ: "
                "replay it with that one"
            )
        try:
            return Head(
                version=_typed(data, "memunit", str),
                instance=_typed(data, "instance", str),
                boot=_typed(data, "boot", str),
                monotonic=float(_typed(data, "monotonic", (int, float))),
                realtime=float(_typed(data, "realtime", (int, float))),
                follows=_typed(data, "follows", bool),
                state=self._state.decode(data.get("state")),
            )
        except CodecError as error:
            raise FlightError(f"is damaged in line 1: {error}") from None

    def parse_steps(self, lines: Iterable[str]) -> Iterator[Step]:
        """The passes after the first line. Raises FlightError; a last line that is cut off is passed over."""
        begun: Step | None = None
        for number, line in enumerate(lines, start=2):
            if not line.endswith("\n"):
                break
            try:
                data = parse(line)
                if isinstance(data, str):
                    if begun is None:
                        raise CodecError("what a pass wanted stands before the pass")
                    yield Step(begun.now, begun.facts, data)
                    begun = None
                    continue
                found = self._step(data)
            except CodecError as error:
                raise FlightError(f"is damaged in line {number}: {error}") from None
            if begun is not None:
                yield begun
            begun = found
        if begun is not None:
            yield Step(begun.now, begun.facts, None)

    def _step(self, data: Any) -> Step:
        if not isinstance(data, list) or len(data) != 2 or not isinstance(data[1], list):
            raise CodecError("a pass has a time and its facts")
        if isinstance(data[0], bool) or not isinstance(data[0], int | float):
            raise CodecError("a time is a number")
        return Step(float(data[0]), tuple(map(self._fact.decode, data[1])), "")


def _typed(data: dict[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(data.get(name), kind):
        raise CodecError(f"has no {name} that could be one")
    return data[name]
