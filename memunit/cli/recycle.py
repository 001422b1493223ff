"""`memunit recycle INSTANCE [SLOT|PID]`: replace the workers of an instance, one after the other, or one of them.

Exit codes: 0 each is replaced (with --no-wait: the master was told), 64 wrong command line or no such worker, 69 not
running, or a master that does not answer or stops before that is done, 77 neither root nor the service's own user.
"""

from collections.abc import Sequence
from typing import Any

from memunit.account.text import plural
from memunit.cli import linked
from memunit.cli.failing import instance_named, say
from memunit.cli.link import Link
from memunit.cli.terminal import as_json, emit
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import EX_UNAVAILABLE, OK
from memunit.core.schema import MOST_WORKERS

_PROGRAM = "memunit recycle"
_DESCRIPTION = """\
Replace all workers of an instance, one after the other, or the worker of a slot or with a pid. Each new worker is ready
before memunit stops the old one, and no request is lost. The cause in the journal is "requested". The command waits
until that is done."""
_EPILOG = """\
examples:
  memunit recycle shop             all workers, one after the other
  memunit recycle shop 0           the worker of slot 0
  memunit recycle shop 4711        the worker with this pid
  memunit recycle --no-wait shop   do not wait"""
# The cause of an end that nobody replaces.
_GIVEN_UP = "scale-down"
# Seconds between two replies of a master that replaces: a worker's start and its drain, and those before it.
_LONGEST = 24 * 3600.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = linked.asker("recycle", _DESCRIPTION, _EPILOG)
    made.add_argument("worker", metavar="SLOT|PID", nargs="?", help="a worker: its slot, or its pid")
    made.add_argument(
        "--no-wait", action="store_true", help="return when the master has accepted the request"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    wanted = meant(chosen.worker, _PROGRAM)

    def work(link: Link) -> int:
        with linked.connected(instance) as other:
            # Before it is asked for: no end is missed.
            other.follow("Follow")
            told = other.replies(linked.PATIENCE)
            before = next(told)
            workers = link.call("Recycle", wanted)["workers"]
            if not wanted:
                _tell_starting(before["workers"], {each["slot"] for each in workers})
            if chosen.no_wait:
                return _done(workers, chosen.json, "is to be replaced", "are to be replaced")
            if not chosen.json and len(workers) > 1:
                emit(f"{plural(len(workers), 'worker')} of {instance} are replaced, one after the other\n")
            return _wait(instance, other, workers, as_data=chosen.json)

    return linked.run(instance, work)


def meant(text: str | None, program: str) -> dict[str, int]:
    """The parameters that name a worker. Raises SystemExit with 64."""
    if text is None:
        return {}
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        fail(f'"{text[:40]}" is neither a slot nor a pid; say 0 or 4711', program)
    number = int(text)
    # Pids of the size of a slot's number are the kernel's own.
    return {"slot": number} if number < MOST_WORKERS else {"pid": number}


def _tell_starting(workers: list[dict[str, Any]], asked: set[int]) -> None:
    # Beside one that serves it is a replacement already, perhaps for another caller.
    count = sum(each["phase"] == "starting" and each["slot"] not in asked for each in workers)
    if count:
        verb = "starts" if count == 1 else "start"
        say(f"{plural(count, 'worker')} just {verb}; only workers that serve are replaced")


def _key(each: dict[str, Any]) -> tuple[int, int]:
    """Which worker it is, or whose end."""
    return each["slot"], each["generation"]


def _wait(instance: str, link: Link, workers: list[dict[str, Any]], *, as_data: bool) -> int:
    """Until none of them is there any more."""
    left = set(map(_key, workers))
    given_up: set[tuple[int, int]] = set()
    for told, anew in linked.followed(instance, link, _LONGEST):
        there = {_key(each): each for each in told["workers"]}
        for end in told["ends"]:
            who = _key(end)
            if who in left and not as_data:
                emit(f"{end['text']}\n")
            if end["cause"] == _GIVEN_UP:
                given_up.add(who)
        left &= there.keys()
        if not left:
            replaced = [each for each in workers if _key(each) not in given_up]
            return _done(replaced, as_data, "is replaced", "are replaced")
        # After a kill, or with another version, the new master may not know what the old master was asked for.
        if anew and not all(there[each]["wants"] or there[each]["reason"] for each in left):
            say(f"the master of {instance} began anew, and {plural(len(left), 'worker')} may not be replaced")
            return EX_UNAVAILABLE
        if told["instance"]["stopping"]:
            verb = "is" if len(left) == 1 else "are"
            say(f"{instance} is being stopped, and {plural(len(left), 'worker')} {verb} not replaced")
            return EX_UNAVAILABLE
    return EX_UNAVAILABLE


def _done(workers: list[dict[str, Any]], as_data: bool, one: str, several: str) -> int:
    if as_data:
        return emit(as_json([{key: each[key] for key in ("slot", "generation", "pid")} for each in workers]))
    if not workers:
        return emit("nobody is replaced: the slots were given up\n", OK)
    names = ", ".join(f"{linked.name_of(each)} (pid {each['pid']})" for each in workers[:8])
    more = f" and {len(workers) - 8} more" if len(workers) > 8 else ""
    return emit(f"{names}{more} {one if len(workers) == 1 else several}\n", OK)
