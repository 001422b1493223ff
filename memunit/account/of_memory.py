"""What is wrong with memory: a leak, a limit that is too low, a memory that can't be measured."""

from itertools import pairwise

from memunit.account.facts import DAY, HOUR, Facts, Finding, check, sentence, size_of
from memunit.account.leaks import Leak, examined, merged
from memunit.account.lives import Life, middle
from memunit.account.text import duration, plural
from memunit.core.quantity import format_size, format_time

# A leak that costs a recycle more often than this is worth a person's time; one a day is what memunit is for.
OFTEN = 4


def baseline(facts: Facts) -> Finding | None:
    """A recycle can't help, or did not."""
    note = facts.account.last_note("BASELINE_OVER_LIMIT", "RECYCLE_DID_NOT_HELP", since=facts.now - DAY)
    if note is None:
        return None
    memory = note.number("MEMUNIT_MEMORY_BYTES")
    limit = note.number("MEMUNIT_LIMIT_BYTES")
    below = note.kind == "BASELINE_OVER_LIMIT"
    short = (
        "the limit is below what the app needs to start"
        if below
        else "a recycle did not help: the worker is at the limit again"
    )
    wanted = f' = "{size_of(max(memory * 2, (limit or 0) * 3 // 2))}"' if memory else ""
    return Finding(
        "limit-too-low",
        2,
        note.at,
        f"{short}, {facts.ago(note.at)}",
        [
            sentence(note.message),
            "A new worker is no smaller than the old one: a recycle costs time here, and frees no memory.",
        ],
        [
            f"raise limit{wanted} in [memory] of {facts.file}, then {check(facts.name)}, and systemctl reload "
            f"memunit@{facts.name}",
        ],
    )


def leak(facts: Facts) -> Finding | None:
    """They reach their limit."""
    lives = facts.account.ended("memory-limit", since=facts.now - HOUR)
    if len(lives) < 2:
        lives = facts.account.ended("memory-limit", since=facts.now - DAY)
    if not lives:
        return None
    last = lives[-1]
    recent = [life for life in lives if (life.ended or 0) >= facts.now - HOUR]
    times = [life.ended or 0.0 for life in lives]
    apart = middle([after - before for before, after in pairwise(times)])
    lived = middle([life.uptime for life in lives if life.uptime is not None])
    drain = middle([life.drain for life in lives if life.drain is not None])
    growth = [life.growth for life in lives if life.growth]
    often = len(recent) >= OFTEN
    limit = _limit(facts, last)
    size = f" of {format_size(limit)}" if limit else ""
    rate = f"{plural(len(lives), 'recycle')}, the last {facts.ago(times[-1])}"
    if often:
        rate = f"{len(lives)} recycles, one every {duration(apart)}"
    told = [
        sentence(last.message),
        f"Workers reach their limit{size} after {duration(lived)} (median): {rate}.",
    ]
    if growth:
        told.append(f"A worker grows by {format_size(int(middle(growth)))} an hour.")
    told.append(
        f"No request is lost by a recycle: each worker finishes what it has, in {duration(drain)} (median)."
    )
    grows = next(iter(merged(examined(facts.account))), None)
    if grows is not None and grows.example.message:
        told.append(sentence(grows.example.message))
    steps = [_search(facts, grows)]
    if often and limit:
        steps.append(
            f'if that is too often, set limit = "{size_of(limit * 2)}" in [memory] of {facts.file}; '
            f"{check(facts.name)} checks whether memory has room, and systemctl reload memunit@{facts.name} applies "
            "the change"
        )
    steps.append(f"memunit report {facts.name} -o report.html draws each worker's memory over time")
    short = f"leaks: {len(recent)} recycles at the limit{size} in the last hour"
    if often:
        short += f", one every {duration(apart)}"
    if len(recent) < 2:
        short = f"leaks slowly: {plural(len(lives), 'recycle')} at the limit{size} in a day"
    return Finding("leak", 2 if often else 3, times[-1], short, told, steps, last)


def _search(facts: Facts, grows: Leak | None) -> str:
    """How to come from the recycles to the code."""
    if grows is not None and grows.kind == "unknown":
        most = 2.0 if facts.settings is None else facts.settings.examine.time
        return (
            f'set time = "{format_time(most * 5)}" in [examine] of {facts.file}, and systemctl reload '
            f"memunit@{facts.name}: with more time the next examination may name what grows"
        )
    if grows is not None:
        many = f"{len(grows.found)} of {plural(grows.workers, 'examined worker')}"
        if grows.verdict == "javascript":
            return (
                f"memunit witness {facts.name} 0 has V8 sample what the worker of slot 0 allocates; memunit examine "
                f"{facts.name} 0, some minutes later, ends it and names the profile, which has the functions and which "
                f"the DevTools of Chrome open; the above was in {many}"
            )
        return f"memunit leaks {facts.name} ranks what grows, with the lines of code; the above was in {many}"
    if facts.settings is not None and not facts.settings.examine.time:
        return (
            f"set time in [examine] of {facts.file} to more than 0, and systemctl reload memunit@{facts.name}: then "
            "each recycle says what grew"
        )
    return f"memunit examine {facts.name} 0 replaces the worker of slot 0 now, and says what grew in it"


def unmeasured(facts: Facts) -> Finding | None:
    """Nobody knows what they hold."""
    note = facts.account.last_note("UNMEASURED")
    started = max(
        (entry.at for entry in facts.account.manager if entry.kind == "MASTER_STARTED"), default=0.0
    )
    if note is None or note.at < started:
        return None
    return Finding(
        "unmeasured",
        2,
        note.at,
        "the memory of the workers can't be measured: no limit is in effect",
        [sentence(note.message)],
        [
            f"systemctl cat memunit@{facts.name} shows the drop-in that hides /proc (ProcSubset=pid); remove it"
        ],
    )


def _limit(facts: Facts, life: Life) -> int | None:
    """That of the file, of which a worker's own is up to 5 % less; or its own, where that was another (memunit set)."""
    limit = facts.settings.memory.limit if facts.settings else None
    if limit is None or (life.limit and not limit - limit // 20 - 1 <= life.limit <= limit):
        return life.limit
    return limit
