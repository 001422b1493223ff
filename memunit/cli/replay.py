"""`memunit replay`: what a flight file says that policy was told, through policy again; what it decided, and why.

Reads files alone: it talks to no master, and needs no right but to read.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from memunit.cli.usage import Parser
from memunit.core.exitcodes import EX_DATAERR, EX_NOINPUT, EX_SOFTWARE, OK
from memunit.core.flight import FlightCodec, FlightError, Head
from memunit.core.invariants import INVARIANTS
from memunit.core.names import instance_of, is_instance
from memunit.core.replay import Replay, Replayed, rows
from memunit.master.recorder import BEFORE, NAME

_DESCRIPTION = """\
Run policy again on the recorded facts of a master. The command prints each decision: when, after which fact, and why.
It checks each invariant, and that the decisions are the same as before. A FILE is a flight file, or a directory with
the flight files of a master. The name of an INSTANCE means its runtime directory."""
_EPILOG = """\
examples:
  memunit replay shop                      the passes with a decision
  memunit replay --summary ./flight.jsonl  the faults and the totals of a copy

exit codes: 0 the same decisions, 64 wrong command line, 65 not a flight file or of another version,
66 the file can't be read, 70 a decision is wrong"""


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser("memunit replay", _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("files", nargs="+", metavar="FILE|INSTANCE", help="whose facts")
    made.add_argument(
        "--all", action="store_true", help="print each pass, and not only passes with a decision"
    )
    made.add_argument("--summary", action="store_true", help="print only the faults and the totals")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 70 when something is wrong with what was decided."""
    asked = parser().parse_args(arguments)
    codec = FlightCodec()
    try:
        flights = sorted((_Flight(path, codec) for path in _paths(asked.files)), key=lambda each: each.order)
    except OSError as error:
        sys.stderr.write(f"memunit: {error.filename}: {error.strerror}\n")
        return EX_NOINPUT
    except FlightError as error:
        sys.stderr.write(f"memunit: {error}\n")
        return EX_DATAERR
    table = _Table(sys.stdout, everything=asked.all, quiet=asked.summary)
    try:
        return table.run(flights, codec)
    except FlightError as error:
        sys.stdout.flush()
        sys.stderr.write(f"memunit: {error}\n")
        return EX_DATAERR
    except BrokenPipeError:
        # The reader has closed the pipe. Without the new descriptor the interpreter writes again at exit, and prints a
        # traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _paths(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        instance = instance_of(name)
        if "/" not in name and not path.exists() and is_instance(instance):
            path = Path("/run/memunit") / instance
        if path.is_dir():
            yield path / NAME
            if (path / BEFORE).exists():
                yield path / BEFORE
        else:
            yield path


class _Flight:
    """One file, of which the first line was read."""

    def __init__(self, path: Path, codec: FlightCodec) -> None:
        self.path = path
        # A copy that was cut off may end in the middle of a character, and what is no text is no line of ours either.
        self._file = path.open(encoding="ascii", errors="replace")
        try:
            self.head: Head = codec.parse_head(self._file.readline())
        except FlightError as error:
            raise FlightError(f"{path} {error}") from None
        self.order = (self.head.realtime, self.head.monotonic)

    def lines(self) -> TextIO:
        return self._file


class _Table:
    def __init__(self, output: TextIO, *, everything: bool, quiet: bool) -> None:
        self._output, self._everything, self._quiet = output, everything, quiet
        self._day = ""
        self._passes = self._facts = self._decisions = self._wrong = 0
        if not quiet:
            self._line("TIME", "FACT", "DECISION", "WHY")

    def run(self, flights: Sequence[_Flight], codec: FlightCodec) -> int:
        replay: Replay | None = None
        for flight in flights:
            if replay is not None and flight.head.follows and replay.state != flight.head.state:
                self._complain(
                    f"{flight.path} does not begin with the state at the end of the file before it"
                )
            replay = Replay(flight.head.state, codec)
            try:
                for done in replay.run(codec.parse_steps(flight.lines())):
                    self._show(done, flight.head)
            except FlightError as error:
                raise FlightError(f"{flight.path} {error}") from None
            except Exception:
                self._complain(
                    f"policy raised this in the pass after the last one:\n{traceback.format_exc()}"
                )
        self._sum()
        return EX_SOFTWARE if self._wrong else OK

    def _show(self, done: Replayed, head: Head) -> None:
        self._passes += 1
        self._facts += len(done.step.facts)
        self._decisions += len(done.actions)
        if not self._quiet and (done.actions or self._everything):
            when = self._clock(head, done.step.now)
            for row in rows(done, everything=self._everything):
                self._line(when, *row)
                when = ""
        for name, why in done.broken:
            self._complain(f"{self._clock(head, done.step.now)} the invariant {name} is broken: {why}")
        if done.differs:
            self._complain(f"{self._clock(head, done.step.now)} the recorded master decided something else")

    def _clock(self, head: Head, now: float) -> str:
        at = head.realtime + now - head.monotonic
        day = time.strftime("%Y-%m-%d", time.localtime(at))
        if day != self._day and not self._quiet:
            self._day = day
            self._output.write(f"-- {day}\n")
        return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"

    def _line(self, when: str, fact: str, decision: str, why: str) -> None:
        self._output.write(f"{when:12}  {_short(fact):38}  {_short(decision):30}  {why}".rstrip() + "\n")

    def _complain(self, text: str) -> None:
        self._wrong += 1
        self._output.write(f"!! {text}\n")

    def _sum(self) -> None:
        wrong = f"{self._wrong} of it wrong" if self._wrong else "the same as then"
        kept = "" if self._wrong else f"; each of {len(INVARIANTS)} invariants holds"
        self._output.write(
            f"-- {self._passes} passes, {self._facts} facts, {self._decisions} actions, {wrong}{kept}\n"
        )
        self._output.flush()


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
