"""How many bytes the new elements of a container hold: a sample of them, weighed with all that they alone refer to."""

from __future__ import annotations

import gc
import math
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from memunit.worker.examination import kinds
from memunit.worker.examination.budget import Budget
from memunit.worker.examination.kinds import BLOB, CLASS, CONTAINER, SKIP, Kinds
from memunit.worker.examination.roots import MODULE
from memunit.worker.examination.walk import Grown, Walk

_WHOLE = 256
_SAMPLED = 48
_NOBODY = -2
_NUMBERS = (int, float, complex)


class Estimate(NamedTuple):
    """Bytes, between `low` and `high` with 95 %; `kind` is the type of most of the elements."""

    size: int
    low: int
    high: int
    kind: str


def of_grown(walk: Walk, grown: Grown, budget: Budget, *, samples: int, most: int) -> Estimate:
    """What the new elements hold, from `samples` of them; `most` objects are looked at for each."""
    thing, known = walk.things[grown.place], walk.kinds
    weight = walk.weights[grown.place]
    if grown.is_blob:
        size = int(grown.new * weight)
        return Estimate(size, size, size, kinds.type_name(type(thing)))
    groups = _groups(walk, grown, samples)
    table = known.size(thing) * grown.new / max(1, grown.length)
    weights = _weigh(walk, groups, walk.seen.get(id(thing), -1), budget, most)
    each = _scaled(weights, grown.new)
    return Estimate(
        int((each.size + table) * weight),
        int((each.low + table) * weight),
        int((each.high + table) * weight),
        _most_common([group[min(1, len(group) - 1)] for group in groups]),
    )


def _groups(walk: Walk, grown: Grown, samples: int) -> List[Sequence[Any]]:
    """A sample of the new elements: of a dict, keys with their values."""
    thing, known = walk.things[grown.place], walk.kinds
    holder = walk.things[walk.parents[grown.place]]
    if type(holder) is kinds.LRU_TYPE and kinds.lru_bound(holder) is not None:
        elements = kinds.lru_parts(holder)[1]
        # A key and a result each, and from CPython 3.10 on the type of the entry.
        period = max(1, round(len(elements) / grown.length))
        step = period * max(1, grown.length // samples)
        return [elements[place : place + period] for place in range(0, period * (grown.length - 1), step)]
    elements = known.sample(thing, samples, grown.new)
    if known.base(thing) is dict:
        return [elements[place : place + 2] for place in range(0, len(elements), 2)]
    return [[each] for each in elements]


def of_crowd(walk: Walk, crowd: Sequence[Any], count: int, budget: Budget, most: int = 500) -> Estimate:
    """What `count` objects hold, of which `crowd` is a sample."""
    return _scaled(_weigh(walk, [[each] for each in crowd], _NOBODY, budget, most), count)._replace(
        kind=_most_common(crowd)
    )


def _scaled(weights: List[float], count: int) -> Estimate:
    if not weights:
        return Estimate(0, 0, 0, "")
    mean = sum(weights) / len(weights)
    spread = 0.0
    if 1 < len(weights) < count:
        variance = sum((each - mean) ** 2 for each in weights) / (len(weights) - 1)
        spread = 1.96 * math.sqrt(variance / len(weights))
    elif len(weights) == 1 < count:
        spread = mean
    return Estimate(int(mean * count), int(max(0.0, mean - spread) * count), int((mean + spread) * count), "")


def _weigh(
    walk: Walk, groups: Sequence[Sequence[Any]], holder: int, budget: Budget, most: int
) -> List[float]:
    """Bytes that each group alone leads to. What two of them lead to is not theirs, nor what others hold as well."""
    owner_of: Dict[int, int] = {}
    sizes: Dict[int, float] = {}
    kept: List[Any] = []  # so that no id() is used twice
    cut: List[int] = []
    done = 0
    for number, group in enumerate(groups):
        if budget.over():
            break
        done += 1
        waiting: List[Tuple[Any, float]] = [(each, 1.0) for each in group]
        looked = 0
        while waiting:
            thing, weight = waiting.pop()
            owner = owner_of.get(id(thing))
            if owner is not None:
                if owner != number:
                    owner_of[id(thing)] = -1
                continue
            if _is_anothers(walk, thing, holder):
                continue
            owner_of[id(thing)] = number
            kept.append(thing)
            size, factor, children = _look(walk.kinds, thing, is_element=looked < len(group))
            sizes[id(thing)] = size * weight
            looked += 1
            if looked > most:
                cut.append(number)
                break
            waiting += [(each, weight * factor) for each in children]
    weights = [0.0] * done
    for address, number in owner_of.items():
        if number >= 0:
            weights[number] += sizes[address]
    whole = [each for number, each in enumerate(weights) if number not in cut]
    return whole if len(whole) * 2 >= len(weights) else weights


def _is_anothers(walk: Walk, thing: Any, holder: int) -> bool:
    """Whether the walk has met it on a way that does not lead over the holder."""
    place = walk.seen.get(id(thing))
    if place is None:
        return False
    if place < 0:
        return True
    if holder == _NOBODY:
        root = walk.roots.get(place)
        return root is not None and root.kind == MODULE
    for _ in range(64):
        if place == holder:
            return False
        if place < 0:
            return True
        place = walk.parents[place]
    return False


def _look(known: Kinds, thing: Any, *, is_element: bool) -> Tuple[int, float, List[Any]]:
    """Bytes of this object alone, how many each child stands for, and the children."""
    kind = type(thing)
    code = known.code(kind)
    if code == SKIP:
        is_number = kind in _NUMBERS and not (kind is int and -5 <= thing <= 256)
        return (known.size(thing) if is_number else 0), 1.0, []
    if code == BLOB:
        base = kinds.base_of_array(thing)
        return known.size(thing), 1.0, [] if base is None else [base]
    if code == CLASS and not is_element:
        return 0, 1.0, []
    if code == CONTAINER:
        length = known.length(thing)
        if length > _WHOLE:
            children = known.sample(thing, _SAMPLED)
            every = length * (2 if known.base(thing) is dict else 1)
            return known.size(thing), every / max(1, len(children)), children
        return known.size(thing), 1.0, gc.get_referents(thing)
    children = gc.get_referents(thing)
    size = known.size(thing)
    if kinds.is_heap_type(kind) and len(children) > 1:
        size += 8 * len(children)  # the values of its attributes, which no __sizeof__() tells of
    return size, 1.0, children


def _most_common(things: Sequence[Any]) -> str:
    counts: Dict[int, int] = {}
    names: Dict[int, type] = {}
    for each in things:
        counts[id(type(each))] = counts.get(id(type(each)), 0) + 1
        names[id(type(each))] = type(each)
    return kinds.type_name(names[max(counts, key=lambda key: counts[key])]) if counts else ""
