"""What came since the start without a place that holds it: tasks, threads, and objects counted by type."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import gc
import sys
import threading
import types
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from memunit.worker.examination import kinds, roots
from memunit.worker.examination.budget import Budget
from memunit.worker.examination.kinds import Kinds
from memunit.worker.examination.walk import attributes_of

_MOST = 512
_AT_ONCE = 65536
_A_TASK, _A_CONTEXT, _CONTAINER = 1, 2, 3
_LONG = 64
_MOST_CONTAINERS = 20_000
_TASK: type = asyncio.Task
_task_coroutine = getattr(_TASK, "get_coro")  # noqa: B009  of the type in C; a subclass may have its own
_task_done = getattr(_TASK, "done")  # noqa: B009
_coroutine_frame = types.CoroutineType.__dict__["cr_frame"].__get__


class Crowd(NamedTuple):
    """`number` objects that do the same, and some of them. `name` is a function."""

    name: str
    number: int
    some: List[Any]


class Census(NamedTuple):
    """Of the objects that the collector has met since the start; of all, where nothing was frozen."""

    types: List[Tuple[str, int]]
    """The most frequent, first."""
    tasks: List[Any]
    """Those that wait, of the app's."""
    contexts: List[Any]
    containers: List[Any]
    """Those with many elements."""
    objects: int
    complete: bool


def census(known: Kinds, budget: Budget, before: int, share: float) -> Census:
    """Counts all objects by type where that fits the budget: the list of them alone takes eight bytes for each."""
    expected = max(0, sys.getallocatedblocks() - before)
    if expected * 8 > budget.left() // 3:
        return Census([], *_of_the_loop(), [], 0, False)
    objects = gc.get_objects()
    counts: Dict[int, int] = {}
    names: Dict[int, type] = {}
    tasks: List[Any] = []
    contexts: List[Any] = []
    containers: List[Any] = []
    special: Dict[int, int] = {}
    complete = True
    for begin in range(0, len(objects), _AT_ONCE):
        if budget.over(share):
            complete = False
            break
        for each in objects[begin : begin + _AT_ONCE]:
            kind = type(each)
            address = id(kind)
            if address in counts:
                counts[address] += 1
            else:
                counts[address] = 1
                names[address] = kind
                special[address] = _special(kind, known)
            if special[address] == _CONTAINER:
                if known.length(each) >= _LONG and len(containers) < _MOST_CONTAINERS:
                    containers.append(each)
            elif special[address]:
                (tasks if special[address] == _A_TASK else contexts).append(each)
    count = len(objects)
    del objects
    top = sorted(counts, key=lambda address: -counts[address])[:12]
    return Census(
        [(kinds.type_name(names[address]), counts[address]) for address in top],
        [each for each in tasks if _waits(each)],
        contexts,
        containers,
        count,
        complete,
    )


def of_tasks(tasks: List[Any]) -> List[Crowd]:
    """By the coroutine that they run, the most first."""
    return _by_name((task_name(each), each) for each in tasks)


def of_threads() -> List[Crowd]:
    """By the function that they run, the most first; memunit's own are not among them."""
    active = getattr(threading, "_active", None)
    others = list(active.items()) if type(active) is dict else []
    named = [(_thread_name(each), each) for ident, each in others if ident != _thread.get_ident()]
    return _by_name(pair for pair in named if not pair[0].startswith("memunit."))


def _by_name(named: Iterable[Tuple[str, Any]]) -> List[Crowd]:
    found: Dict[str, Crowd] = {}
    for name, each in named:
        known = found.get(name) or Crowd(name, 0, [])
        if len(known.some) < _MOST:
            known.some.append(each)
        found[name] = known._replace(number=known.number + 1)
    return sorted(found.values(), key=lambda crowd: -crowd.number)


def variables_of(tasks: List[Any]) -> List[roots.Root]:
    """The coroutines of tasks, each of which holds its variables."""
    found = []
    for each in tasks[:_MOST]:
        coroutine = _coroutine(each)
        if type(coroutine) is types.CoroutineType:
            found.append(roots.Root(coroutine, task_name(each), roots.TASK))
    return found


def task_name(task: Any) -> str:
    """The function of its coroutine."""
    coroutine = _coroutine(task)
    if type(coroutine) is not types.CoroutineType:
        return kinds.type_name(type(coroutine))
    frame = _coroutine_frame(coroutine)
    return kinds.name_of(coroutine.__qualname__) or "?" if frame is None else roots.named_code(frame)


def _coroutine(task: Any) -> Any:
    try:
        return _task_coroutine(task)
    except TypeError:  # a task that is none of asyncio's
        return None


def _waits(task: Any) -> bool:
    coroutine = _coroutine(task)
    if type(coroutine) is types.CoroutineType:
        frame = _coroutine_frame(coroutine)
        if frame is not None and roots.is_ours(frame.f_code.co_filename):
            return False
    try:
        return not _task_done(task)
    except TypeError:
        return False


def _special(kind: type, known: Kinds) -> int:
    if issubclass(kind, _TASK):
        return _A_TASK
    if kind is contextvars.Context:
        return _A_CONTEXT
    return _CONTAINER if known.code(kind) == kinds.CONTAINER and kind is not tuple else 0


def _of_the_loop() -> Tuple[List[Any], List[Any]]:
    """Where the objects can't be listed: the tasks that asyncio itself has in a list, if it has one."""
    known = getattr(getattr(asyncio.tasks, "_scheduled_tasks", None), "data", None)
    found = []
    for reference in list(known) if type(known) is set else []:
        task = reference()
        if task is not None and issubclass(type(task), _TASK) and _waits(task):
            found.append(task)
    return found, []


def _thread_name(thread: Any) -> str:
    attributes = attributes_of(thread)
    target = attributes.get("_target") if type(attributes) is dict else None
    if type(target) is types.MethodType:
        target = target.__func__
    if type(target) is types.FunctionType:
        module = kinds.name_of(target.__globals__.get("__name__"))
        return ".".join(filter(None, (module, kinds.name_of(target.__qualname__) or "?")))
    return kinds.type_name(type(thread))
