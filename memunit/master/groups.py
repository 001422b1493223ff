"""The groups of all workers by their names, from the fork until the kernel says that nobody is left in them."""

import contextlib
import math
import os
import select
import time
from collections.abc import Collection, Hashable, Iterable, Set
from typing import Generic, TypeVar

from memunit.master.cgroup import Tree
from memunit.master.group import Death, Group, kill, members, oom_kills, remove

Name = TypeVar("Name", bound=Hashable)

# Seconds between two looks at the bound of all that we have started, as PSI has it.
BOUND_REST = 2.0
# Seconds between two looks at what one that imports may take.
IMPORT_REST = 1.0


class Groups(Generic[Name]):
    """Empty and without effect where there is no delegated tree."""

    def __init__(self, tree: Tree | None, epoll: select.epoll) -> None:
        """`epoll` gets a descriptor for each group, for EPOLLPRI: whoever waits on it calls `sweep` after."""
        self._tree = tree
        self._epoll = epoll
        self._groups: dict[Name, Group] = {}
        self._zygotes: dict[Hashable, str] = {}
        self._programs: dict[Hashable, str] = {}
        self._importing: set[Hashable] = set()
        self._imports_at = -math.inf
        self._muted: set[Name] = set()
        self._emptying: dict[str, int] = {}
        self._unheard: set[str] = set()
        self._pressure = None if tree is None else tree.pressure()
        self._events = None if tree is None else tree.events()
        for descriptor in (self._pressure, self._events):
            if descriptor is not None:
                epoll.register(descriptor, select.EPOLLPRI)
        self.listen_at = math.inf
        """When to look again whether all that we have started is at its bound (CLOCK_MONOTONIC, s)."""
        self._told = {each for each in (self._pressure, self._events) if each is not None}

    def clear(self, *, gently: bool = False) -> None:
        """Kill and remove what an earlier master has left and nobody has taken; `gently` leaves the processes alone."""
        kept = {*self._zygotes.values(), *(group.path for group in self._groups.values())}
        for path in () if self._tree is None else self._tree.clear(kept, kill=not gently):
            self._await_empty(path)

    def strangers(self) -> set[int]:
        """The pids in groups that an earlier master has made, and nobody has taken."""
        if self._tree is None:
            return set()
        kept = {*self._zygotes.values(), *(group.path for group in self._groups.values())}
        return self._tree.members(kept)

    def take_zygote(self, identity: Hashable, label: str) -> None:
        """The group that a predecessor has made for a zygote, and what it has started."""
        if self._tree is not None:
            self._zygotes[identity] = self._tree.zygote_path(label)
            if self._tree.imports(label):
                self._import(identity)

    def take(self, name: Name, label: str, *, limit: int | None, ceiling: int | None) -> str:
        """The group that a predecessor has made for a worker: its cgroup.procs, or "" if there is none any more."""
        if self._tree is None:
            return ""
        group = self._tree.known_group(label, limit=limit, ceiling=ceiling)
        if group is None:
            return ""
        self._keep(name, group)
        return group.procs

    @property
    def told(self) -> Set[int]:
        """The descriptors by which epoll tells of the memory of those that have not ended."""
        return self._told

    def pressed(self, ready: Collection[int], now: float) -> bool:
        """Whether workers have had to wait for memory, by the descriptors of which epoll has told.

        PSI tells of that once in two seconds at most, and needs no reading to be quiet again. Where the kernel does not
        measure it (psi=0), only that the bound is reached is known, which page cache does hundreds of times a second.
        """
        if self._events is not None and now >= self.listen_at:
            self.listen_at = math.inf
            self._epoll.register(self._events, select.EPOLLPRI)
        waited = self._pressure in ready and self._measured()
        if self._tree is None or self._events is None or self._events not in ready:
            return waited
        os.pread(self._events, 256, 0)
        self._epoll.unregister(self._events)
        self.listen_at = now + BOUND_REST
        return waited or self._tree.crowded()

    def _measured(self) -> bool:
        """Whether PSI still tells: "0" in cgroup.pressure takes the file away; what is open of it is always ready."""
        assert self._pressure is not None
        poll = select.poll()
        poll.register(self._pressure, select.POLLPRI)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return True
        self._epoll.unregister(self._pressure)
        self._told.discard(self._pressure)
        os.close(self._pressure)
        self._pressure = None
        return False

    def bound(self) -> int | None:
        """Follow the bounds of the unit, which `systemctl set-property` changes at any time. Nothing tells of that.

        Returns as Tree.bound.
        """
        return None if self._tree is None else self._tree.bound()

    @property
    def imports_at(self) -> float:
        """When `follow_imports` is due (CLOCK_MONOTONIC, s)."""
        return self._imports_at if self._importing else math.inf

    def follow_imports(self) -> None:
        """Bound those that import by what is free now."""
        now = time.monotonic()
        if self._tree is not None and now >= self.imports_at:
            self._imports_at = now + IMPORT_REST
            self._tree.bound_imports([self._zygotes[each] for each in self._importing])

    def place(self, name: Name, label: str, *, limit: int | None, ceiling: int | None) -> str:
        """Make the group of a worker; the file by which it moves there, or "". Raises OSError."""
        if self._tree is None:
            return ""
        group = self._tree.group(label, limit=limit, ceiling=ceiling)
        self._keep(name, group)
        return group.procs

    def _keep(self, name: Name, group: Group) -> None:
        self._groups[name] = group
        self._epoll.register(group.events, select.EPOLLPRI)
        self._told.add(group.events)

    def bound_one(self, name: Name, ceiling: int | None) -> None:
        """Have the kernel keep a worker under so many bytes from now on; None for no bound."""
        group = self._groups.get(name)
        if group is not None:
            group.bound(ceiling)

    def place_zygote(self, identity: Hashable, label: str) -> str:
        """Make the group of a zygote; the file by which it moves there, or "". Raises OSError."""
        if self._tree is None:
            return ""
        path = self._zygotes[identity] = self._tree.zygote(label)
        self._import(identity)
        self.follow_imports()
        return f"{path}/cgroup.procs"

    def _import(self, identity: Hashable) -> None:
        """It imports the app from now on: the bound of each that imports is due."""
        self._importing.add(identity)
        self._imports_at = -math.inf

    def settle_zygote(self, identity: Hashable) -> None:
        """It has imported the app, as it says, or has forked."""
        if self._tree is not None and identity in self._importing:
            self._importing.discard(identity)
            self._tree.settle(self._zygotes[identity])

    def members_of_zygote(self, identity: Hashable) -> set[int]:
        """The pids in the group of a zygote, if it has one."""
        return members(self._zygotes[identity]) if identity in self._zygotes else set()

    def starved_zygote(self, identity: Hashable) -> bool:
        """Whether the OOM killer has come to the group of a zygote."""
        path = self._zygotes.get(identity)
        return path is not None and oom_kills(path) > 0

    def retire_zygote(self, identity: Hashable) -> None:
        """Neither the zygote nor a worker of its is left: what the app's import has started is killed."""
        path = self._zygotes.pop(identity, None)
        self._importing.discard(identity)
        if path is not None:
            self._clear_out(path)

    def place_program(self, identity: Hashable, label: str, memory: int) -> str:
        """Make the group of a program that examines a worker, with a bound; the file by which it moves there, or "".

        Raises OSError.
        """
        if self._tree is None:
            return ""
        path = self._programs[identity] = self._tree.program(label, memory)
        return f"{path}/cgroup.procs"

    def free_for(self, memory: int) -> int:
        """What of so many bytes a program that examines a worker may take now."""
        return memory if self._tree is None else self._tree.free_for(memory)

    def kill_program(self, identity: Hashable) -> None:
        """SIGKILL to all that it is, if it has a group."""
        if identity in self._programs:
            kill(self._programs[identity])

    def retire_program(self, identity: Hashable) -> bool:
        """It has ended: what it leaves is killed. Whether the OOM killer has come to it."""
        path = self._programs.pop(identity, None)
        if path is None:
            return False
        starved = oom_kills(path) > 0
        self._clear_out(path)
        return starved

    def items(self) -> Iterable[tuple[Name, Group]]:
        """Each worker that has not ended, with its group."""
        return self._groups.items()

    def get(self, name: Name) -> Group | None:
        """The group of a worker that has not ended."""
        return self._groups.get(name)

    def path(self, name: Name) -> str:
        """Where the group of a worker is that has not ended; "" if it has none."""
        group = self._groups.get(name)
        return "" if group is None else group.path

    def mute(self, name: Name) -> None:
        """Let nothing be told of this one until `listen`, which then tells what has come meanwhile."""
        self._muted.add(name)
        self._epoll.unregister(self._groups[name].events)

    def listen(self, name: Name) -> None:
        """The end of `mute`."""
        if name in self._muted:
            self._muted.discard(name)
            self._epoll.register(self._groups[name].events, select.EPOLLPRI)

    def kill(self, name: Name) -> None:
        """SIGKILL to all that a worker is, if it has a group."""
        if name in self._groups:
            self._groups[name].kill()

    def ended(self, name: Name, *, spare: bool = False) -> Death:
        """The worker has ended, or never came to be: what was counted. What it leaves is killed, but for `spare`."""
        group = self._groups.pop(name, None)
        if group is None:
            return Death("", 0)
        death = group.death()
        if name in self._muted:
            self._muted.discard(name)
        else:
            self._epoll.unregister(group.events)
        self._told.discard(group.events)
        group.close()
        if not group.remove():
            if not spare:
                group.kill()
            self._await_empty(group.path)
        return death

    def sweep(self) -> None:
        """Remove the groups that have become empty."""
        for path in list(self._unheard):
            self._unheard.discard(path)
            if not remove(path):
                self._await_empty(path)
        for path in list(self._emptying):
            with contextlib.suppress(OSError):
                os.pread(self._emptying[path], 256, 0)  # quiet until the next change
            if remove(path):
                self._forget(path)

    def close(self) -> None:
        """Kill what is left, and close all descriptors."""
        for group in self._groups.values():
            group.kill()
            group.close()
            group.remove()
        for path in (*self._zygotes.values(), *self._programs.values()):
            kill(path)
            remove(path)
        for descriptor in self._emptying.values():
            os.close(descriptor)
        for told in (self._pressure, self._events):
            if told is not None:
                os.close(told)
        self._pressure = self._events = None
        self.listen_at = math.inf
        self._groups.clear()
        self._emptying.clear()

    def _clear_out(self, path: str) -> None:
        """Remove it, if need be once what is left in it is killed."""
        if not remove(path):
            kill(path)
            self._await_empty(path)

    def _await_empty(self, path: str) -> None:
        """Its cgroup.events says populated 0 when the last process is gone: it may be in an uninterruptible sleep."""
        if path in self._emptying:
            return
        try:
            descriptor = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:
            # For want of descriptors: the next `sweep` tries again, or the group would be there for good.
            self._unheard.add(path)
            return
        self._unheard.discard(path)
        self._epoll.register(descriptor, select.EPOLLPRI)
        self._emptying[path] = descriptor
        if remove(path):
            self._forget(path)

    def _forget(self, path: str) -> None:
        descriptor = self._emptying.pop(path)
        self._epoll.unregister(descriptor)
        os.close(descriptor)
