"""`memunit top INSTANCE`: its workers, live, with keys to sort, to recycle and to scale.

Exit codes: 0 left by q, 64 wrong command line, 69 not running, or a master that does not answer, 77 neither root nor
the service's own user; 141 when whoever read the output has hung up.
"""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from memunit.account.text import clean
from memunit.cli import linked, live
from memunit.cli.failing import Failed, instance_named
from memunit.cli.keys import Keys
from memunit.cli.link import Link
from memunit.cli.tables import fold, render
from memunit.cli.terminal import HUNG_UP, Terminal, as_json, emit, hung_up_within, terminal
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import OK
from memunit.core.quantity import QuantityError, parse_time
from memunit.core.varlink import Refused

_PROGRAM = "memunit top"
_DESCRIPTION = """\
Show the workers of an instance, live: phase, age, memory against limit and ceiling, growth, the time until the limit.
If standard output is not a terminal, the command prints once, or as often as -n says."""
_EPILOG = """\
keys:
  w m a l g t   sort by worker, memory, age, longest request, growth, time to the limit
  r             recycle: type the number of a slot and Enter, or only Enter for all workers
  +  -          one worker more, one fewer, until the next reload
  q             quit

examples:
  memunit top shop              every two seconds
  memunit top -d 500ms shop     every half second
  memunit top -n 3 shop | cat   three times, for a file or a program"""
_LEAST, _MOST = 0.1, 3600.0
_HELP = "w m a l g t sort, r recycle, + - scale, q leave"


def parser() -> Parser:
    """What may be typed after its name."""
    made = linked.asker("top", _DESCRIPTION, _EPILOG)
    made.add_argument("-d", "--delay", metavar="TIME", default="2s", help="the time between two updates [2s]")
    made.add_argument("-n", "--number", metavar="N", help="update N times, and quit")
    made.add_argument(
        "-s",
        "--sort",
        choices=tuple(live.ORDERS),
        default="w",
        metavar="KEY",
        help="sort by: w, m, a, l, g or t",
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    number: str | None = chosen.number
    if number is not None and not (
        number.isascii() and number.isdigit() and 0 < len(number) < 8 and int(number)
    ):
        fail(f'-n: "{clean(number, 40)}" is no number; say 1 or more', _PROGRAM)
    top = _Top(instance, _delay(chosen.delay), chosen.sort, None if number is None else int(number))
    try:
        if chosen.json or not _terminals():
            return top.print(as_data=chosen.json)
        return top.show()
    except Failed as failed:
        return failed.tell()
    except KeyboardInterrupt:
        return OK


def _delay(text: str) -> float:
    try:
        seconds = parse_time(text, endless=False)
    except QuantityError as error:
        fail(f"--delay: {error}", _PROGRAM)
    if not _LEAST <= seconds <= _MOST:
        fail(f'--delay: "{clean(text, 40)}" is not from 100ms to 1h', _PROGRAM)
    return seconds


def _terminals() -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "", None)
    return False


class _Top:
    def __init__(self, instance: str, delay: float, order: str, number: int | None) -> None:
        self._instance, self._delay, self._order, self._number = instance, delay, order, number
        self._link: Link | None = None
        self._word = _HELP
        self._typed: str | None = None

    def _call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, on the connection that there is, or a new one: a master that executes itself anew hangs up.

        Raises Failed and Refused.
        """
        for last in (False, True):
            fresh = self._link is None
            link = self._link = self._link or linked.connected(self._instance)
            try:
                return link.call(method, parameters)
            except OSError as error:
                link.close()
                self._link = None
                if last or fresh:
                    raise linked.failure(self._instance, error) from None
        raise AssertionError("unreachable: the second try returns or raises")

    def _look(self) -> dict[str, Any]:
        try:
            return self._call("Follow")
        except Refused as refused:
            raise linked.told(self._instance, refused) from None

    # -- into a file or a pipe -----------------------------------------------------------------------------------

    def print(self, *, as_data: bool) -> int:
        """As often as was said, once if nothing was."""
        left = self._number or 1
        while True:
            told = self._look()
            at = terminal()
            code = emit(as_json(told) if as_data else self._screen(told, at) + "\n\n")
            left -= 1
            if code or not left:
                return code
            if hung_up_within(self._delay):
                return HUNG_UP

    # -- on a terminal -------------------------------------------------------------------------------------------

    def show(self) -> int:
        """Until somebody leaves, or the terminal has gone."""
        keys = Keys()
        told = self._look()
        left = self._number
        failed: Failed | None = None
        with keys.screen():
            looked = time.monotonic()
            while not keys.ended:
                try:
                    at = terminal()
                    height = os.get_terminal_size(1).lines
                    word = (
                        f"recycle slot (Enter: all): {self._typed}" if self._typed is not None else self._word
                    )
                    text = self._screen(told, at, rows=height - 6)
                    keys.draw(f"{text}\n{at.paint(clean(word, at.columns), 'dim')}", height)
                    key = keys.next(max(0.0, looked + self._delay - time.monotonic()))
                except (OSError, EOFError):
                    return HUNG_UP
                if key and not self._pressed(key):
                    break
                if time.monotonic() >= looked + self._delay:
                    left = None if left is None else left - 1
                    if left == 0:
                        break
                if key or time.monotonic() >= looked + self._delay:
                    try:
                        told, looked = self._look(), time.monotonic()
                    except Failed as error:
                        failed = error
                        break
        if failed is not None:
            raise failed
        return OK

    def _pressed(self, key: str) -> bool:
        """Do what the key says; False to leave."""
        if self._typed is not None:
            self._type(key)
        elif key in ("q", "Q", "\x03", "\x04"):
            return False
        elif key in live.ORDERS:
            self._order = key
            self._word = f"sorted by {live.ORDERS[key][0]}"
        elif key == "r":
            self._typed = ""
        elif key in "+-":
            self._try(lambda: self._scale(1 if key == "+" else -1))
        else:
            self._word = _HELP
        return True

    def _type(self, key: str) -> None:
        """The number of a slot, until Enter; any other key calls it off."""
        assert self._typed is not None
        if key in "\r\n":
            typed, self._typed = self._typed, None
            self._try(lambda: self._recycle({"slot": int(typed)} if typed else {}))
        elif key.isascii() and key.isdigit() and len(self._typed) < 4:
            self._typed += key
        elif key in ("\x7f", "\b") and self._typed:
            self._typed = self._typed[:-1]
        else:
            self._typed, self._word = None, "nobody is recycled"

    def _try(self, ask: Any) -> None:
        """What a master refuses is no reason to leave."""
        try:
            self._word = ask()
        except Refused as refused:
            self._word = str(linked.told(self._instance, refused))
        except Failed as failed:
            self._word = str(failed)

    def _recycle(self, wanted: dict[str, int]) -> str:
        found = self._call("Recycle", wanted)["workers"]
        return f"to be replaced: {', '.join(linked.name_of(each) for each in found[:12])}"

    def _scale(self, by: int) -> str:
        count = self._call("Describe")["instance"]["count"] + by
        return f"{self._call('Scale', {'count': max(0, count)})['count']} workers until the next reload"

    def _screen(self, told: dict[str, Any], at: Terminal, rows: int | None = None) -> str:
        """All lines, of which those of the workers are `rows` at most."""
        instance = told["instance"]
        said, style = live.headline(instance)
        lines = fold(f"{instance['name']}: {said}", at, hang="  ", style=style).split("\n")
        lines += fold(clean(instance["status"], 400), at).split("\n")
        columns, every = live.rows(told, at, self._order)
        shown = every if rows is None else every[: max(1, rows)]
        lines += ["", *render(columns, shown, at).rstrip("\n").split("\n")]
        if len(shown) < len(every):
            lines.append(f"and {len(every) - len(shown)} more")
        lines += [
            "",
            *(fold(each, at, hang="  ") for each in live.last_ends(told, 1 if rows is not None else 3)),
        ]
        return "\n".join(lines).rstrip("\n")
