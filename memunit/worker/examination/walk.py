"""The way from the roots to all that they hold, as far as the budget goes; and what has grown on it.

Breadth first, so that the way to an object is the shortest: that is the name a person knows it by.
"""

from __future__ import annotations

import gc
import types
from array import array
from typing import Any, Collection, Dict, List, NamedTuple, Sequence

from memunit.worker.examination import kinds
from memunit.worker.examination.baseline import SHORTEST, Lengths
from memunit.worker.examination.budget import Budget
from memunit.worker.examination.kinds import BLOB, CLASS, CONTAINER, FUNCTION, LARGE, LRU, SKIP, Kinds
from memunit.worker.examination.roots import Root

_WHOLE = 256
_SAMPLED = 64
_NAMESPACE = 20_000
_LEAST = 16
_globals_of = types.FunctionType.__dict__["__globals__"].__get__
_MOST = 4000
_LATER = -2


class Grown(NamedTuple):
    """A container, or a large object, that is longer than at the start. `place` is where the walk has it."""

    place: int
    length: int
    """Elements; of a large object, bytes."""
    new: int
    is_blob: bool


class Walk:
    """What was met, in four columns: the thing, the place of what holds it, how many it stands for, and the grown
    container that it is in (an index into `grown`, -1 for none).
    """

    def __init__(self, known: Kinds, lengths: Lengths, budget: Budget) -> None:
        self.kinds = known
        self.things: List[Any] = []
        self.parents = array("l")
        self.weights = array("d")
        self.owners = array("l")
        self.roots: Dict[int, Root] = {}
        """By the place of what a root holds."""
        self.seen: Dict[int, int] = {}
        """The place of each thing, by its id()."""
        self.grown: List[Grown] = []
        self.complete = True
        self._lengths = lengths
        self._budget = budget
        self._later: List[int] = []
        self._head = 0

    def leave_out(self, things: Collection[Any]) -> None:
        """Never look into these."""
        for each in things:
            self.seen[id(each)] = -1

    def go(self, roots: Sequence[Root], share: float, own: "Collection[str] | None" = None) -> None:
        """From these roots, until this share of the budget is used up.

        With `own`, the names of modules, classes and functions of other modules are left for the next time.
        """
        spaces = {id(each.thing) for each in roots} if own is not None else None
        for root in roots:
            if self.seen.get(id(root.thing), _LATER) == _LATER:
                self.seen.pop(id(root.thing), None)
                before = len(self.things)
                self._meet(-1, [root.thing], 1.0, -1)
                if len(self.things) > before:
                    self.roots[before] = root
        if own is None:
            later, self._later = self._later, []
            for place in later:
                self._meet(
                    place, gc.get_referents(self.things[place]), self.weights[place], self.owners[place]
                )
        while self._head < len(self.things):
            if not self._head & 255 and self._budget.over(share):
                self.complete = False
                return
            place = self._head
            self._head += 1
            if own is not None and spaces is not None and self._is_foreign(place, own, spaces):
                self._later.append(place)
                continue
            self._expand(place)

    def keep_for_later(self, roots: Sequence[Root]) -> None:
        """Do not look into these but as roots: a function leads to its module, and so to all others."""
        for each in roots:
            self.seen.setdefault(id(each.thing), _LATER)

    def _is_foreign(self, place: int, own: Collection[str], spaces: Collection[int]) -> bool:
        thing = self.things[place]
        code = self.kinds.code(type(thing))
        if code == CLASS:
            return kinds.module_of(thing) not in own
        return code == FUNCTION and id(_globals_of(thing)) not in spaces

    def _expand(self, place: int) -> None:
        thing, weight = self.things[place], self.weights[place]
        code = self.kinds.codes[id(type(thing))]
        if code == BLOB:
            return
        children: Sequence[Any]
        if code == CONTAINER:
            length = self.kinds.length(thing)
            if length > (_NAMESPACE if place in self.roots else _WHOLE):
                children = self.kinds.sample(thing, _SAMPLED)
                weight *= length * (2 if self.kinds.base(thing) is dict else 1) / max(1, len(children))
                attributes = attributes_of(thing)
                if attributes is not None:
                    self._meet(place, [attributes], self.weights[place], self.owners[place])
                self._meet(place, children, weight, self.owners[place])
                return
        children = kinds.lru_parts(thing)[0] if code == LRU else gc.get_referents(thing)
        self._meet(place, children, weight, self.owners[place])

    def _meet(self, parent: int, children: Sequence[Any], weight: float, owner: int) -> None:
        """Note those that were not met before and may hold something."""
        seen, things, known = self.seen, self.things, self.kinds
        codes, code_of, length_of, noted = known.codes, known.code, known.length, self._lengths.of
        for thing in children:
            kind = type(thing)
            code = codes.get(id(kind), -1)
            if code < 0:
                code = code_of(kind)
            if code == SKIP or id(thing) in seen:
                continue
            new = 0
            if code == CONTAINER:
                length = len(thing) if kind is dict or kind is list or kind is tuple else length_of(thing)
                if length == 0:
                    continue
                # A shorter one was not noted: whether it was as long at the start is not known.
                if length >= SHORTEST and kind is not tuple:
                    new = length - noted(id(thing))
            elif code == BLOB:
                if (kind is str or kind is bytes) and len(thing) < LARGE // 4:
                    continue
                length = known.size(thing)
                if length < LARGE:
                    continue
                new = length - noted(id(thing))
            place = len(things)
            seen[id(thing)] = place
            things.append(thing)
            self.parents.append(parent)
            self.weights.append(weight)
            if new >= _LEAST and len(self.grown) < _MOST and self._matters(new, weight, owner, code == BLOB):
                self.grown.append(Grown(place, length, new, code == BLOB))
                self.owners.append(len(self.grown) - 1)
            else:
                self.owners.append(owner)

    def _matters(self, new: int, weight: float, owner: int, blob: bool) -> bool:
        """Inside of another that has grown, only what has grown much more."""
        if owner < 0:
            return True
        outer = self.grown[owner]
        return not outer.is_blob and (new >= LARGE if blob else new * weight >= max(1000, 8 * outer.new))


def attributes_of(thing: Any) -> Any:
    """The instance dictionary of an object, None if it has none. Asks CPython's own descriptor alone."""
    for each in kinds.mro_of(type(thing)):
        found = kinds.dict_of(each).get("__dict__")
        if type(found) is types.GetSetDescriptorType:
            try:
                return found.__get__(thing)
            except (AttributeError, TypeError):
                return None
    return None
