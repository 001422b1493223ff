"""What an import has left behind that a fork does not carry over, or carries over to all workers at once."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
from typing import Any, Callable, Collection, Dict, Iterator, List, NamedTuple, Tuple

from memunit.worker import descriptors, endings, holders

_MOST = 8
_LONGEST = 240  # characters of an item: the app may have given it any name
_STANDARD = (0, 1, 2)

# By kind: what the import has done, and what comes of it.
_SENTENCES = {
    "threads": "has started threads: a forked worker has none of them, and a lock that one of them holds stays locked",
    "native": "has loaded a library with threads of its own, which are lost in a fork(2) without its knowledge",
    "timers": "has set an interval timer, which a forked worker does not have",
    "loops": "has left an event loop open, whose epoll(7) all workers would share",
    "children": "has started processes, which all workers would share, and no worker could wait for",
    "semaphores": "has made semaphores, which all workers would share: a worker that is killed while it holds one "
    "blocks the others",
    descriptors.CONNECTION: "has opened connections, which all workers would share",
    descriptors.SOCKET: "has opened sockets: a worker would receive what is meant for another",
    descriptors.PIPE: "has opened pipes, which all workers would share",
    descriptors.EVENTS: "has opened descriptors for events, which all workers would share",
    descriptors.DATABASE: "has opened a database file, and databases do not survive a fork(2)",
    descriptors.FILE: "has opened files, in which all workers would share one position",
    descriptors.LOCK: "has locked files: the lock would belong to all workers or to none",
    descriptors.DEVICE: "has opened devices, which all workers would share",
    "endings": "has registered functions for its end, which run only once, after the last worker has ended",
}
_LISTENER = "the app's import has opened a listening socket, which all workers will share"
_NATIVE = "the app's import has loaded libraries with threads of their own, which these libraries end before a fork(2)"


class Found(NamedTuple):
    """`hazards` are what a fork breaks, a sentence a kind; `notes` what it gets along with, as far as is known."""

    hazards: List[str]
    notes: List[str]


class Item(NamedTuple):
    """One thing that stands in the way. `key` is its descriptor, thread or process, `thing` a Python object of it."""

    kind: str
    text: str
    key: Tuple[str, Any] = ("", None)
    thing: Any = None


Line = Callable[[Tuple[str, Any]], str]
"""Where the thing of this key was made, "" if that is not known."""


def found(
    control: int, listeners: Collection[int], ends: endings.Endings, line: Line = lambda _: ""
) -> Found:
    """What stands in the way in this process; both empty where a fork is safe. Forks once if there is doubt."""
    objects = _Objects()
    items = [*_threads(), *_timers(), *_children()]
    items += [Item("loops", type(each).__name__, thing=each) for each in objects.loops]
    items += objects.semaphores()
    ours = {*_STANDARD, control, *listeners, *objects.descriptors_of_loops(), *_tracker()[1]}
    opened = descriptors.shared(ours, objects.files.keys(), objects.archives)
    items += [
        Item(each.kind, each.text, ("fd", each.fd), objects.owner(each))
        for each in opened
        if each.kind != descriptors.LISTENER
    ]
    items += [Item("endings", each.text, ("ending", each.text), each.holder) for each in ends.found()]
    notes = []
    if any(each.kind == descriptors.LISTENER for each in opened):
        names = [each.text for each in opened if each.kind == descriptors.LISTENER]
        notes.append(f"{_LISTENER}: {_listed(names)}")
    native, rest = _native()
    items += [Item("native", name, ("thread", thread)) for thread, name in rest]
    if native and not rest:
        notes.append(_NATIVE)
    return Found(_said(items, line), notes)


def _said(items: List[Item], line: Line) -> List[str]:
    if not items:
        return []
    things = [each.thing for each in items if each.thing is not None]
    known = holders.places(things) if things else {}
    sentences = []
    for kind, sentence in _SENTENCES.items():
        texts = []
        for each in items:
            if each.kind == kind:
                where = line(each.key)
                if where and where in each.text:
                    where = ""
                place = str(known.get(id(each.thing), "")) if each.thing is not None else ""
                more = place if place.endswith(where) else "; ".join(filter(None, (place, where)))
                texts.append(f"{each.text[:_LONGEST]} ({more})" if more else each.text[:_LONGEST])
        if texts:
            sentences.append(f"the app's import {sentence}: {_listed(descriptors.counted(texts))}")
    return sentences


def _listed(names: List[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _threads() -> Iterator[Item]:
    for each in threading.enumerate():
        if each is not threading.current_thread():
            runs = getattr(each, "_target", None) or getattr(type(each), "run", None)
            named = endings.named(runs) if runs is not None else ""
            what = f"{each.name[:80]}, which runs {named}" if " line " in named else each.name[:80]
            yield Item("threads", what, ("thread", each.native_id), each)


def _timers() -> Iterator[Item]:
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        if signal.getitimer(getattr(signal, name))[0]:
            yield Item("timers", name, ("timer", name))


def _tracker() -> "Tuple[int, List[int]]":
    """The pid and the descriptor of multiprocessing's resource tracker, which is made to be shared by forks."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    fd = getattr(tracker, "_fd", None)
    return getattr(tracker, "_pid", None) or 0, [] if fd is None else [fd]


def children() -> List[int]:
    """The child processes of this one that live."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
            found += [int(pid) for pid in file.read().split()]
    return [pid for pid in found if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _children() -> Iterator[Item]:
    for pid in children():
        if pid != _tracker()[0]:
            name = "?"
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                name = os.fsdecode(file.read(200).replace(b"\0", b" ")).strip() or name
            yield Item("children", f"{name} (pid {pid})", ("child", pid))


def _native() -> "Tuple[int, List[Tuple[int, str]]]":
    """How many threads there are that Python knows nothing of, and those that a fork finds unprepared.

    A library that is made for fork(2) is told of one (pthread_atfork(3)): OpenBLAS ends its threads then, gRPC ends its
    and starts others.
    """
    before = _unknown_threads()
    if not before:
        return 0, []
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    after = _unknown_threads()
    return len(before), [(int(thread), name) for thread, name in before.items() if thread in after]


def _unknown_threads() -> Dict[str, str]:
    known = {each.native_id for each in threading.enumerate()} | {threading.get_native_id()}
    found = {}
    for name in os.listdir("/proc/self/task"):
        if int(name) not in known:
            with contextlib.suppress(OSError), open(f"/proc/self/task/{name}/comm", "rb") as file:
                found[name] = os.fsdecode(file.read()).strip()
    # jemalloc, which pyarrow brings along, starts it anew in a child.
    return {thread: name for thread, name in found.items() if name != "jemalloc_bg_thd"}


class _Objects:
    """The objects of this process that hold something of the kernel, by one look at all objects."""

    def __init__(self) -> None:
        self.loops: List[Any] = []
        self.files: Dict[int, Any] = {}
        self.archives: List[int] = []
        self._semaphores: List[Any] = []
        self._owners: Dict[int, Any] = {}
        self._databases: List[Any] = []
        objects = gc.get_objects()
        # By type(), because isinstance() asks the objects themselves, and those of lazy kinds would wake up.
        kinds = {kind: named for kind in set(map(type, objects)) if (named := _kind(kind))}
        for each in [each for each in objects if type(each) in kinds]:
            with contextlib.suppress(Exception):  # an app's own kind need not have all that its base names
                self._keep(kinds[type(each)], each)
        del objects

    def _keep(self, named: str, each: Any) -> None:
        if named == "loop":
            if not each.is_closed():
                self.loops.append(each)
        elif named == "semaphore":
            self._semaphores.append(each)
        elif named == "database":
            self._databases.append(each)
        elif named == "archive":
            self.archives.append((each.fp if hasattr(each, "fp") else each.fileobj).fileno())
        elif named == "file":
            self.files[each.fileno()] = each
        else:
            self._owners[each.fileno()] = each

    def owner(self, opened: descriptors.Open) -> Any:
        """An object that has to do with it: what holds that is what holds it."""
        if opened.kind == descriptors.DATABASE and self._databases:
            return self._databases[0]
        return self._owners.get(opened.fd, self.files.get(opened.fd))

    def semaphores(self) -> List[Item]:
        """Those of sem_open(3) that are mapped, named by the objects that are known for them."""
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            count = sum("/dev/shm/sem." in line for line in file)  # noqa: S108  glibc's place
        if not count:
            return []
        known = [Item("semaphores", type(each).__name__, thing=each) for each in self._semaphores]
        return known or [Item("semaphores", f"{count} of sem_open(3)")]

    def descriptors_of_loops(self) -> List[int]:
        """What belongs to the loops that are told of, as far as it is known."""
        found = []
        for loop in self.loops:
            for name in ("_selector", "_ssock", "_csock"):
                with contextlib.suppress(Exception):
                    found.append(getattr(loop, name).fileno())
        return found


def _kind(kind: type) -> str:
    names = {f"{each.__module__}.{each.__name__}" for each in kind.__mro__}
    if "asyncio.events.AbstractEventLoop" in names:
        return "loop"
    if any(each.__name__ == "SemLock" for each in kind.__mro__):
        return "semaphore"
    if issubclass(kind, io.FileIO):
        return "file"
    if names & {"zipfile.ZipFile", "tarfile.TarFile"}:
        return "archive"
    if "sqlite3.Connection" in names:
        return "database"
    if names & {"_socket.socket", "multiprocessing.connection._ConnectionBase"}:
        return "owner"
    return ""
