"""What the examinations of several workers say together: what grows in each life is a leak."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memunit.account.entries import Entry, number
from memunit.account.lives import Account
from memunit.account.text import clean
from memunit.records import dataclass, replace

# Verdicts of an examination (core/leak.py) that something grows which nobody needs.
_GROWS = ("python", "javascript", "native", "threads", "tasks", "shared", "descriptors", "processes")
_NO_LEAK = ("baseline", "fragmentation")
_VERDICTS = (*_GROWS, *_NO_LEAK, "unknown")
_LONGEST = 200
# Of the workers that were examined since it was first found, that it has to be in.
_IN_EVERY = 0.8
_MOST_LISTED = 100
_MOST_HOLDERS = 16
# Seconds between the entry of an examination and the time in its file.
_SAME = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One examination. `at` in seconds of CLOCK_REALTIME, `size` the bytes that its verdict explains, `uptime` in
    seconds; None what is not known.
    """

    at: float
    worker: str
    pid: int
    verdict: str
    holder: str = ""
    type: str = ""
    size: int = 0
    route: str = ""
    route_share: float | None = None
    uptime: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """The examinations with the same verdict and the same holder."""

    verdict: str
    holder: str
    found: tuple[Examined, ...]
    """The oldest first."""
    workers: int
    """How many workers were examined from the first of these on, without those that were too young to have it."""
    since: int = 0
    """How many of them after the last of these: if the code was mended meanwhile, it is gone."""

    @property
    def kind(self) -> str:
        """ "leak" of what grows in every life, "maybe" of what was not seen often enough, "no leak", "unknown"."""
        if self.verdict in _GROWS:
            often = len(self.found) > 1 and len(self.found) >= _IN_EVERY * self.workers
            return "leak" if often else "maybe"
        return "no leak" if self.verdict in _NO_LEAK else "unknown"

    @property
    def unnamed(self) -> bool:
        """Whether an examination of Python objects has found no place, as one that a bound has cut short."""
        return self.verdict == "python" and not self.holder

    @property
    def size(self) -> int:
        """The bytes of one worker, the median."""
        return int(statistics.median(each.size for each in self.found))

    @property
    def per_hour(self) -> int | None:
        """Bytes that a worker grows by in an hour; None where no life is known from its start."""
        known = [each for each in self.found if each.uptime]
        time = sum(each.uptime or 0.0 for each in known)
        return int(sum(each.size for each in known) * 3600 / time) if time else None

    @property
    def type(self) -> str:
        """The type of the holder."""
        return self.example.type

    @property
    def route(self) -> tuple[str, float] | None:
        """The route that most of these examinations name, and the median of its share; None if they name none."""
        named = Counter(each.route for each in self.found if each.route)
        if not named:
            return None
        ((route, count),) = named.most_common(1)
        if count < len(self.found) / 2:
            return None
        shares = [each.route_share or 0.0 for each in self.found if each.route == route]
        return route, statistics.median(shares)

    @property
    def by(self) -> str:
        """The route and its share for a person, "" where there is none."""
        return "" if self.route is None else f"{self.route[0]} ({self.route[1] * 100:.0f} %)"

    @property
    def example(self) -> Examined:
        """The newest."""
        return self.found[-1]


def examined(account: Account) -> list[Examined]:
    """The examinations of an account."""
    uptimes = {(life.slot, life.generation, life.pid): life.uptime for life in account.lives}
    found = []
    for entry in account.notes:
        if entry.kind == "EXAMINED" and entry.at >= account.since:
            one = _of_entry(entry, uptimes.get((entry.slot, entry.generation, entry.pid)))
            if one is not None:
                found.append(one)
    return found


def of_file(data: Any) -> list[Examined]:
    """The examination that a file of the state directory has, from JSON: its verdict first, and all else that grew in
    that worker. Never raises.

    The app has the user of that directory, so anything may stand there.
    """
    if not isinstance(data, dict):
        return []
    verdict, worker = _word(data, "verdict"), _word(data, "worker")
    slot, _, generation = worker.partition(".")
    pid, at = _whole(data.get("pid")), _whole(data.get("ended"))
    if verdict not in _VERDICTS or None in (number(slot), number(generation), pid, at):
        return []
    usec = _whole(data.get("uptime_usec"))
    first = Examined(
        at=float(at or 0),
        worker=worker,
        pid=pid or 0,
        verdict=verdict,
        holder=_word(data, "holder"),
        type=_word(data, "type"),
        size=_whole(data.get("bytes")) or 0,
        route=_word(data, "route"),
        route_share=_share(data.get("route_share")),
        uptime=None if usec is None else usec / 1e6,
    )
    others = data.get("holders")
    found = [first]
    if verdict == "baseline" and not first.holder:
        # It has not grown: what has come since the start, as modules that were imported late, is no leak.
        return found
    for each in others[:_MOST_HOLDERS] if isinstance(others, list) else ():
        name = _word(each, "name") if isinstance(each, dict) else ""
        # A container with a bound stops growing when it is full.
        if (
            name
            and name not in [one.holder for one in found]
            and each.get("bound") is None
            and each.get("most") is None
        ):
            size, kind = _whole(each.get("size")) or 0, _word(each, "type")
            found.append(replace(first, verdict="python", holder=name, type=kind, size=size))
    return found


def together(journal: Iterable[Examined], files: Iterable[Sequence[Examined]]) -> list[Examined]:
    """Both, the oldest first. Of a worker that both have, the file has more, and the journal the message."""
    kept = {(each[0].worker, each[0].pid): list(each) for each in files if each}
    for one in journal:
        known = kept.get((one.worker, one.pid))
        if known is None or abs(known[0].at - one.at) > _SAME:
            kept[one.worker, one.pid] = [one]
        else:
            known[0] = replace(one, uptime=known[0].uptime if one.uptime is None else one.uptime)
    return sorted((each for found in kept.values() for each in found), key=lambda each: each.at)


def workers(found: Iterable[Examined]) -> int:
    """How many workers these are of."""
    return len({(each.worker, each.pid) for each in found})


def merged(found: Sequence[Examined]) -> list[Leak]:
    """By verdict and holder: leaks first, the fastest first; of the equally sure, those with a name first."""
    groups: dict[tuple[str, str], list[Examined]] = {}
    for each in sorted(found, key=lambda each: each.at):
        groups.setdefault((each.verdict, each.holder), []).append(each)
    leaks = [
        Leak(
            verdict=verdict,
            holder=holder,
            found=tuple(group),
            workers=workers(each for each in found if each.at >= group[0].at and not _too_young(each, group)),
            since=workers(each for each in found if each.at > group[-1].at),
        )
        for (verdict, holder), group in groups.items()
    ]
    ranks = ("leak", "maybe", "no leak", "unknown")
    leaks.sort(
        key=lambda leak: (
            ranks.index(leak.kind),
            leak.unnamed,
            -(leak.per_hour or 0),
            -leak.size,
            leak.holder,
        )
    )
    return leaks[:_MOST_LISTED]


def _too_young(each: Examined, group: Sequence[Examined]) -> bool:
    """Whether it had not grown, but has also lived for less time than those that had: it speaks against nothing."""
    lived = [one.uptime for one in group if one.uptime]
    flat = each.verdict == "baseline" and not each.holder and each not in group
    return flat and bool(lived) and each.uptime is not None and each.uptime < statistics.median(lived)


def _of_entry(entry: Entry, uptime: float | None) -> Examined | None:
    fields: Mapping[str, str] = entry.fields
    verdict = fields.get("MEMUNIT_LEAK_VERDICT", "")
    if verdict not in _VERDICTS:
        return None

    def word(name: str) -> str:
        return clean(fields.get(f"MEMUNIT_LEAK_{name}", ""), _LONGEST)

    return Examined(
        at=entry.at,
        worker=f"{entry.slot}.{entry.generation}",
        pid=entry.pid,
        verdict=verdict,
        holder=word("HOLDER"),
        type=word("TYPE"),
        size=entry.number("MEMUNIT_LEAK_BYTES") or 0,
        route=word("ROUTE"),
        route_share=_share(fields.get("MEMUNIT_LEAK_ROUTE_SHARE", "")),
        uptime=uptime,
        message=clean(entry.message, 400),
    )


def _word(data: Mapping[Any, Any], name: str) -> str:
    said = data.get(name)
    return clean(said, _LONGEST) if isinstance(said, str) else ""


def _share(said: object) -> float | None:
    """From 0 to 1, from a number or its text."""
    try:
        share = float(said)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return share if 0 <= share <= 1 else None


def _whole(said: object) -> int | None:
    if isinstance(said, int) and not isinstance(said, bool):
        return number(str(said)) if -1 < said < 10**18 else None
    return number(said) if isinstance(said, str) else None
