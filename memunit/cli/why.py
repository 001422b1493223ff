"""`memunit why INSTANCE [PID|SLOT]`: what is wrong, the cause, and what a person can do; or why a worker ended.

Exit codes: 0 it is told, also that nothing is wrong; 64 wrong command line; 69 no such instance or worker, or there is
no journal; 77 the journal may not be read.
"""

import re
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from memunit.account.entries import Entry
from memunit.account.facts import DAY, WEEK, Facts, Finding
from memunit.account.findings import diagnose
from memunit.account.gist import gist
from memunit.account.lives import PLANNED, Life
from memunit.account.source import Journal, Unreadable
from memunit.account.text import clean, duration, plural
from memunit.account.units import answers
from memunit.cli.failing import Failed, instance_named, say
from memunit.cli.reading import facts_of, known, of_life, read, reader
from memunit.cli.tables import fold
from memunit.cli.terminal import RANK_STYLES, Terminal, as_json, emit, terminal
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import EX_UNAVAILABLE
from memunit.core.quantity import format_size
from memunit.core.schema import MOST_WORKERS

_PROGRAM = "memunit why"
_DESCRIPTION = """\
Say what is wrong with an instance: what happened, what the app printed, and what you can do. With the pid of a worker
or the number of a slot, say why that worker, or the last worker of that slot, ended."""
_EPILOG = """\
examples:
  memunit why shop            the most urgent trouble of the instance, and a line for each other trouble
  memunit why shop 4711       why the worker with this pid ended
  memunit why shop 0          why the last worker of slot 0 ended
  memunit why shop 0.6        why worker 0.6 ended

exit codes: 0 answered, 64 wrong command line, 69 no such instance or worker, or no journal,
77 may not read the journal"""
_WORKER = re.compile(r"(\d{1,10})(?:\.(\d{1,10}))?")
# What a worker prints when it is told to, and its last words, may come a little after its end is known.
_AFTER = 2.0
_BEFORE = 120.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = reader("why", _DESCRIPTION, _EPILOG)
    made.add_argument(
        "worker", metavar="PID|SLOT", nargs="?", help="a worker: its pid, its slot, or both its numbers"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    if chosen.worker is not None and _WORKER.fullmatch(chosen.worker) is None:
        fail(f'"{clean(chosen.worker, 40)}" is neither a pid nor a slot; say 4711, 0 or 0.6', _PROGRAM)
    now = time.time()
    try:
        unit = known(instance, chosen.journal)
        begin = now - WEEK if chosen.worker is not None or chosen.journal else now - DAY
        entries = _entries(chosen.journal, instance, begin, now, bounded=chosen.worker is None)
        if chosen.journal and entries:
            # Of another machine, or another time: as it was when its last entry was written.
            now = entries[-1].at
        ask = chosen.journal is None
        facts = facts_of(unit, entries, now, begin=min(begin, entries[0].at) if entries else begin, ask=ask)
        printer = Journal(chosen.journal)
        if chosen.worker is None:
            found = diagnose(facts)
            evidence = _evidence(printer, found[0].life, instance, found[0].printed_at)
            text, value = _trouble(facts, found, evidence, terminal())
        else:
            life = _life(facts, chosen.worker)
            evidence = _evidence(printer, life, instance)
            text, value = _end(facts, life, evidence, terminal())
    except Failed as failed:
        return failed.tell()
    except Unreadable as error:
        say(str(error))
        return error.code
    return emit(as_json(value) if chosen.json else text)


def _entries(place: str | None, instance: str, begin: float, now: float, *, bounded: bool) -> list[Entry]:
    """A master that hangs is told of without the journal too."""
    try:
        return read(place, instance, 0.0 if place else begin)
    except Failed as failed:
        silent = answers(instance) if bounded and place is None else ""
        if silent:
            raise Failed(
                f"the master of {instance} {silent}: systemctl restart memunit@{instance} ends it; {failed}",
                EX_UNAVAILABLE,
            ) from None
        raise


def _life(facts: Facts, said: str) -> Life:
    """The worker that a person means: a pid if there was one, else the newest of a slot. Raises Failed."""
    found = _WORKER.fullmatch(said)
    assert found is not None
    first, generation = int(found[1]), found[2]
    lives = facts.account.lives
    if generation is not None:
        some = [life for life in lives if (life.slot, life.generation) == (first, int(generation))]
    else:
        some = [life for life in lives if life.pid == first and life.pid > 0]
        if not some and first < MOST_WORKERS:
            slot = [life for life in lives if life.slot == first]
            some = [life for life in slot if life.ended is not None] or slot
    if not some:
        raise Failed(
            f"the journal of the last week has no worker {said} of {facts.name}; memunit status {facts.name} shows "
            f"those that run, journalctl -u memunit@{facts.name} all that was said",
            EX_UNAVAILABLE,
        )
    return max(some, key=lambda life: (life.ended or life.first, life.generation))


def _evidence(journal: Journal, life: Life | None, instance: str, at: float | None = None) -> list[str]:
    if at is not None:
        # The import has failed before there was a worker: in a process that has no name.
        printed = journal.printed(instance, None, at - _BEFORE / 10, at + _AFTER)
    elif life is not None and life.pid > 0:
        begin = max(life.first - _AFTER, (life.ended or life.first) - _BEFORE)
        end = (life.ended if life.ended is not None else time.time()) + _AFTER
        printed = journal.printed(instance, life.pid, begin, end)
    else:
        return []
    return [clean(line, 200) for line in gist(printed)]


# -- an instance ---------------------------------------------------------------------------------------------------


def _trouble(
    facts: Facts, found: Sequence[Finding], evidence: Sequence[str], at: Terminal
) -> tuple[str, dict[str, Any]]:
    first, others = found[0], found[1:]
    head = first.short or "all is well"
    lines = [fold(f"{facts.name}: {head}", at, style=RANK_STYLES[first.rank]), ""]
    lines += [fold(text, at) for text in first.text]
    lines += _shown(first.life, evidence, at)
    lines += ["", at.paint("What you can do", "bold")]
    lines += [fold(f"- {_sentence(step)}", at, hang="  ") for step in first.steps]
    if others:
        lines += ["", at.paint("Also", "bold")]
        lines += [
            fold(f"- {_sentence(each.short)}", at, hang="  ", style=RANK_STYLES[each.rank]) for each in others
        ]
    value = {
        "instance": facts.name,
        "findings": [
            {
                "kind": each.kind,
                "rank": each.rank,
                "at": each.at,
                "summary": each.short,
                "text": each.text,
                "steps": each.steps,
                "worker": each.life.name if each.life else None,
                "pid": each.life.pid if each.life else None,
            }
            for each in found
        ],
        "printed": list(evidence),
    }
    return "\n".join(lines) + "\n", value


def _shown(life: Life | None, evidence: Sequence[str], at: Terminal) -> list[str]:
    if not evidence:
        return []
    title = "Lines that processes of the instance printed before"
    if life is not None:
        title = f"Worker {life.name} (pid {life.pid}) printed before its end"
    width = None if at.width is None else max(16, at.width - 4)
    shown = [part for line in evidence for part in (textwrap.wrap(line, width) if width else [line])]
    return ["", fold(f"{title}:", at, style="bold"), *(f"  {at.paint('|', 'dim')} {line}" for line in shown)]


# -- a worker ------------------------------------------------------------------------------------------------------

_STEPS = {
    "memory-limit": "nothing, if this is rare: no request was lost; memunit why {name} says how often it happens, "
    "memunit leaks {name} what grows",
    "memory-ceiling": "find the request that needs so much at once, or raise ceiling in [memory] of {file}",
    "watchdog": "the stacks show where the worker hung; give that call a time limit, or raise watchdog in [workers] "
    "of {file}",
    "crash-exit": "mend the error that it printed, then systemctl reload memunit@{name}",
    "crash-signal": "coredumpctl info {pid} shows a core dump if there is one; a SIGKILL that nobody sent is the OOM "
    "killer: journalctl -k",
    "start-failed": "mend the error that it printed; memunit check {name} finds the usual mistakes",
    "start-timeout": "if the app only needs more time, raise start_timeout in [workers] of {file}",
    "grace-expired": "the stacks show what the worker waited for; bound that in the app, or raise grace in [stop] "
    "of {file}",
    "pressure": "memory is short for all: lower count, or raise MemoryMax= of the unit",
}


def _end(facts: Facts, life: Life, evidence: Sequence[str], at: Terminal) -> tuple[str, dict[str, Any]]:
    lines = [
        fold(f"Worker {life.name} of {facts.name} (pid {life.pid}): {_fate(life)}", at, style="bold"),
        "",
    ]
    lines += [fold(f"{_sentence(clean(life.message, 400))}", at)] if life.message else []
    lines += [fold(text, at) for text in _particulars(facts, life)]
    lines += _shown(life, evidence, at)
    lines += ["", at.paint("What you can do", "bold")]
    steps = _steps(facts, life)
    lines += [fold(f"- {_sentence(step)}", at, hang="  ") for step in steps]
    value = {
        "instance": facts.name,
        **of_life(life),
        "phase": life.phase,
        "exit_code": life.exit_code or None,
        "exit_status": life.exit_status,
        "uptime_seconds": life.uptime,
        "replacement_pid": life.replacement,
        "requests_in_work": life.in_work,
        "longest_request": life.longest or None,
        "longest_request_seconds": life.longest_age,
        "message": life.message,
        "printed": list(evidence),
        "steps": steps,
    }
    return "\n".join(lines) + "\n", value


def _fate(life: Life) -> str:
    if life.ended is not None:
        return f"ended, {clean(life.cause, 30)}"
    if life.lost:
        return "its master ended first, and the journal does not say how the worker ended"
    return {"starting": "is starting", "running": "serves", "stop-sigterm": "is stopping"}[life.phase]


def _particulars(facts: Facts, life: Life) -> list[str]:
    told = []
    at = [
        ("started", life.started),
        ("ready", life.ready),
        ("told to stop", life.stopping),
        ("ended", life.ended),
    ]
    clock = [
        f"{what} {time.strftime('%H:%M:%S', time.localtime(when))}" for what, when in at if when is not None
    ]
    told.append(f"It was {', '.join(clock)} ({facts.ago(life.ended or life.first)}).")
    if life.memory is not None:
        bound = f" of {format_size(life.limit)}" if life.limit else ""
        peak = f", {format_size(life.peak)} at its peak" if life.peak else ""
        told.append(f"Its memory was {format_size(life.memory)}{bound}{peak}.")
    told += [
        clean(note.message, 400)
        for note in facts.account.notes
        if note.kind == "EXAMINED" and _of(note, life)
    ]
    if life.drain is not None:
        told.append(f"It took {duration(life.drain)} to finish what it had.")
    if life.in_work and life.longest:
        told.append(
            f"It was cut off in {plural(life.in_work, 'request')}, the longest {life.longest} for "
            f"{duration(life.longest_age or 0.0)}."
        )
    if life.replacement:
        told.append(f"The worker with pid {life.replacement} took its place.")
    return told


def _of(note: Entry, life: Life) -> bool:
    return (note.slot, note.generation, note.pid) == (life.slot, life.generation, life.pid)


def _steps(facts: Facts, life: Life) -> list[str]:
    log = f"journalctl -u memunit@{facts.name} _PID={life.pid} shows all that the worker printed"
    if life.ended is None:
        return [f"memunit status {facts.name} shows it now" if life.phase != "dead" else log]
    if life.cause in PLANNED:
        return ["nothing: it ended as planned, and finished what it had"]
    step = _STEPS.get(life.cause)
    if step is None:
        return [log]
    return [step.format(name=facts.name, file=facts.file, pid=life.pid), log]


def _sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with a command or a file."""
    literal = re.match(r"(memunit|systemctl|journalctl|coredumpctl)\b|\S*[/@=]", text)
    begun = text if literal else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", ":")) else f"{begun}."
