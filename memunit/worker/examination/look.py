"""One examination from the beginning to its report."""

from __future__ import annotations

import sys
from typing import Any, Callable, Collection, Dict, List, NamedTuple, Optional, Tuple

from memunit.worker.examination import baseline, bounded, crowds, memory, names, roots, sizes
from memunit.worker.examination.baseline import Baseline
from memunit.worker.examination.budget import Budget
from memunit.worker.examination.kinds import Kinds, type_name
from memunit.worker.examination.verdict import Holder, Numbers, Verdict, verdict
from memunit.worker.examination.walk import Grown, Walk

VERSION = 1
_SHOWN = 8
_QUICK, _PRECISE = (8, 200), (160, 2000)
_CANDIDATES = 300
_MEMBERS = 12
_CAN_TRIM = 4 << 20


class Found(NamedTuple):
    """What an examination has found; `report` is what leaves the process, in JSON's types."""

    verdict: Verdict
    report: Dict[str, Any]


def examine(
    seconds: float,
    size: int,
    packages: Collection[str] = (),
    beat: Optional[Callable[[], object]] = None,
) -> Optional[Found]:
    """Within `seconds` and `size` bytes; None if nothing was noted at the start.

    `packages` are the app's top-level ones. `beat()` is called now and then meanwhile.
    """
    start = baseline.noted()
    if start is None:
        return None
    budget = Budget(seconds, size, beat)
    now, heap = memory.read(), memory.heap()
    given = memory.trim(min(0.5, seconds / 4)) if heap is not None and heap.malloc_free > _CAN_TRIM else 0
    known = Kinds()
    counted = crowds.census(known, budget, start.memory.blocks if start.frozen else 0, 0.35)
    walk = Walk(known, start.lengths, budget)
    own, rest, ours = roots.modules(packages)
    made = (walk, walk.things, walk.seen, walk.grown, start, counted.tasks, counted.containers)
    walk.leave_out([*ours, *made])
    apart = [
        *roots.contexts(counted.contexts, [*own, *rest]),
        *roots.threads(),
        *crowds.variables_of(counted.tasks),
        *roots.others(),
    ]
    walk.keep_for_later([*own, *rest])
    names_of_own = {each.name for each in own}
    walk.go(own, 0.55, names_of_own)
    walk.go(apart, 0.65)
    walk.go(rest, 0.75)
    # What is long and was not met is held where no module leads: by a type in C, or in another thread's own place.
    walk.go(
        [roots.Root(each, "", roots.NOWHERE) for each in counted.containers if id(each) not in walk.seen], 0.8
    )
    holders = _holders(walk, budget)
    tasks = _crowd(walk, crowds.of_tasks(counted.tasks), budget, "task")
    threads = _crowd(walk, crowds.of_threads(), budget, "thread")
    complete = walk.complete and counted.complete and start.lengths.whole
    numbers = _numbers(start, now, heap, given, len(counted.tasks), complete)
    found = verdict(numbers, holders, tasks, threads)
    report = {
        "version": VERSION,
        **_of_verdict(found),
        "growth": numbers.growth,
        "own": numbers.now,
        "holders": [each._asdict() for each in holders if each.size * 100 >= numbers.growth],
        "tasks": None if tasks is None else tasks._asdict(),
        "threads": None if threads is None else threads._asdict(),
        "types": counted.types,
        "numbers": numbers._asdict(),
        "start": start.memory._asdict(),
        "now": now._asdict(),
        "heap": None if heap is None else heap._asdict(),
        "group": memory.group(),
        "objects": len(walk.things),
        "complete": complete,
        "stopped_for": budget.why,
        "python": ".".join(map(str, sys.version_info[:3])),
        "used": budget.used(),
        "usec": budget.usec(),
    }
    return Found(found, report)


def _of_verdict(found: Verdict) -> Dict[str, Any]:
    holder = found.holder
    return {
        "verdict": found.name,
        "holder": "" if holder is None else holder.name,
        "kind": "" if holder is None else holder.kind,
        "type": "" if holder is None else holder.type,
        "elements": "" if holder is None else holder.elements,
        "length": 0 if holder is None else holder.length,
        "more": 0 if holder is None else holder.more,
        "bound": None if holder is None else holder.bound,
        "most": None if holder is None else holder.most,
        "bytes": found.size,
        "share": found.share,
        "confidence": found.confidence,
    }


def _holders(walk: Walk, budget: Budget) -> List[Holder]:
    """What has grown, by its name, the largest first."""
    groups: Dict[str, _Group] = {}
    most = sorted(walk.grown, key=lambda each: -each.new * walk.weights[each.place] * _worth(each))
    for grown in most[:_CANDIDATES]:
        if budget.over(0.85):
            break
        samples, objects = _QUICK
        size = sizes.of_grown(walk, grown, budget, samples=samples, most=objects).size
        name = names.name(walk, grown.place)
        group = groups.setdefault(name.text, _Group(name, []))
        group.members.append((size, grown))
    largest = sorted(groups.values(), key=lambda group: -group.size())
    found = []
    for group in largest[:_SHOWN]:
        if budget.over(0.98):
            break
        found.append(_holder(walk, group, budget))
    found.sort(key=lambda each: -each.size)
    return [each._replace(bound=None, most=None) if _grows_inside(each, found) else each for each in found]


def _worth(grown: Grown) -> int:
    """What an element may have, in bytes, before it is weighed."""
    return 1 if grown.is_blob else 100


def _grows_inside(holder: Holder, found: List[Holder]) -> bool:
    """Whether its elements have grown, so that a bound of their number is no bound."""
    inner = [each.size for each in found if each is not holder and each.name.startswith(f"{holder.name}[")]
    return sum(inner) * 3 >= holder.size


class _Group(NamedTuple):
    """Containers of one name, which are elements of one thing, with what each seems to hold."""

    name: names.Name
    members: List[Tuple[int, Grown]]

    def size(self) -> int:
        return sum(size for size, _ in self.members)


def _holder(walk: Walk, group: _Group, budget: Budget) -> Holder:
    members = sorted(group.members, key=lambda pair: -pair[0])
    step = max(1, len(members) // _MEMBERS)
    chosen = members[::step][:_MEMBERS]
    samples, most = _PRECISE
    each = [
        sizes.of_grown(walk, grown, budget, samples=max(8, samples // len(chosen)), most=most)
        for _, grown in chosen
    ]
    # The others hold what they seem to hold, by the measure of these.
    scale = group.size() / max(1, sum(size for size, _ in chosen))
    first = chosen[0][1]
    weights = walk.weights
    return Holder(
        group.name.text,
        group.name.kind,
        type_name(type(walk.things[first.place])),
        each[0].kind,
        int(sum(grown.length * weights[grown.place] for _, grown in members)),
        int(sum(grown.new * weights[grown.place] for _, grown in members)),
        int(sum(one.size for one in each) * scale),
        int(sum(one.low for one in each) * scale),
        int(sum(one.high for one in each) * scale),
        bounded.bound(walk, first, group.name) if len(members) == 1 else None,
        bounded.most(walk, first, group.name) if len(members) == 1 else None,
    )


def _crowd(walk: Walk, found: List[crowds.Crowd], budget: Budget, kind: str) -> Optional[Holder]:
    if not found:
        return None
    crowd = found[0]
    step = max(1, len(crowd.some) // 64)
    estimate = sizes.of_crowd(walk, crowd.some[::step], crowd.number, budget)
    return Holder(
        *(crowd.name, kind, estimate.kind, "", crowd.number, crowd.number),
        *(estimate.size, estimate.low, estimate.high),
    )


def _numbers(
    start: Baseline, now: memory.Memory, heap: Optional[memory.Heap], given: int, tasks: int, complete: bool
) -> Numbers:
    before, was = start.memory, start.heap
    private = now.anonymous - before.anonymous
    shared = max(0, now.shared - before.shared)
    python: Optional[int] = None
    python_free = malloc_free = 0
    malloc: Optional[int] = None
    if heap is not None and heap.arenas > 0:
        # Without a zygote only the blocks were counted at the start; what they are on average does not change much.
        in_use = was.in_use if was is not None else heap.in_use * before.blocks // max(1, now.blocks)
        python = max(0, heap.in_use - in_use)
        free_before = was.arenas - was.in_use if was is not None else 0
        python_free = max(0, heap.arenas - heap.in_use - free_before)
        if heap.malloc_known:
            at_start = was.malloc_in_use if was is not None else max(0, before.anonymous - in_use)
            malloc = max(0, heap.malloc_in_use - at_start)
            # What is free there need not be in RAM: no more of it can be than is left of all.
            room = now.anonymous - heap.arenas - heap.malloc_in_use
            free_at_start = was.malloc_free if was is not None else 0
            malloc_free = max(0, min(heap.malloc_free - free_at_start, room))
    return Numbers(
        now=now.anonymous + now.shared,
        growth=max(0, private) + shared,
        shared=shared,
        python=python,
        python_free=python_free,
        malloc=malloc,
        malloc_free=malloc_free,
        given=given,
        threads=max(0, now.threads - before.threads),
        tasks=tasks,
        complete=complete,
    )
