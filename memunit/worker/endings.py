"""The clean-up that the import has registered for the end of its process. The zygote runs it, once for all workers.

A temporary directory that the import has made serves all workers. Each worker inherits the function that removes the
directory, so the first worker to end once removed it for all others.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import sys
import types
import weakref
from typing import Any, Callable, Collection, List, NamedTuple

# They see to what is their process's own, and know a fork, or have nothing to lose by it.
_STANDARD = {
    ("concurrent.futures.process", "_python_exit"),
    ("concurrent.futures.thread", "_python_exit"),
    ("logging", "shutdown"),
    ("multiprocessing.util", "_exit_function"),
    ("weakref", "finalize._exitfunc"),
}
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

# The standard library's files, and ours.
NOT_THE_APPS = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(os.path.abspath(__file__)) + os.sep)


class Ending(NamedTuple):
    """Something to be done at the end; `holder` is the object that it is about, None for a plain function."""

    text: str
    holder: Any


class Endings:
    """Those of an app whose top-level packages are `packages`, as they are right after its import.

    What an installed library has registered is not among them, and stays in each worker: it flushes and closes what
    is the process's own, and servers that fork have let it run in each of their workers for as long as there are
    such servers.
    """

    def __init__(self, packages: Collection[str] = ()) -> None:
        self._packages = frozenset(packages)
        self._functions = [each for each in registered() if self._is_ours(each)]
        self._finalizers = [
            each for each, info in _finalizers() if self._is_ours(getattr(info, "func", None))
        ]
        # In a cycle, which gc.freeze() then keeps for ever: or the end of the interpreter would come to each of them.
        objects = gc.get_objects()
        kinds = {kind for kind in set(map(type, objects)) if self._has_last_words(kind)}
        self._kept: List[Any] = [each for each in objects if type(each) in kinds] if kinds else []
        del objects
        self._any = bool(self._kept or self._functions or self._finalizers)
        self._kept.append(self._kept)

    def __bool__(self) -> bool:
        return self._any

    def found(self) -> List[Ending]:
        """Those that surely are to be done at the end of the process."""
        endings = [Ending(f"atexit: {named(each)}", None) for each in self._functions]
        for each in self._finalizers:
            held = each.peek()
            if held is not None and each.atexit:
                endings.append(Ending(f"weakref.finalize: {named(held[1])}", held[0]))
        closers = [each for each in self._kept if type(each).__module__ == "tempfile"]
        endings += [Ending("the removal of a temporary file", each) for each in closers if _deletes(each)]
        return endings

    def leave(self) -> None:
        """In a worker: they are the zygote's. What the worker itself registers runs at the worker's end."""
        for function in self._functions:
            atexit.unregister(function)
        for finalizer in self._finalizers:
            finalizer.detach()

    def run(self) -> None:
        """In the zygote, at its end: all that is registered, the libraries' too. Raises nothing."""
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        for each in self._kept[:-1]:
            with contextlib.suppress(BaseException):
                type(each).__del__(each)

    def _is_ours(self, function: Any) -> bool:
        if function is None:
            return False
        module, name = home(function)
        if (module, name) in _STANDARD or type(
            getattr(_plain(function), "__self__", None)
        ).__name__ == "PyCapsule":
            return False  # or a function of a library in C or Rust
        if module.partition(".")[0] in self._packages:
            return True
        return not any(folder in file_of(function) for folder in INSTALLED)

    def _has_last_words(self, kind: type) -> bool:
        """Whether its __del__() is the app's own, or removes a file; what CPython's types have flushes and closes."""
        if not isinstance(getattr(kind, "__del__", None), types.FunctionType):
            return False
        if kind.__module__ == "tempfile":
            return True
        file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
        return self._is_ours(kind.__del__) and not (  # type: ignore[attr-defined]
            file.startswith(NOT_THE_APPS)
        )


class _Probe:
    """Equal to nothing, and remembers what it was compared with."""

    def __init__(self) -> None:
        self.met: List[Any] = []

    def __eq__(self, other: object) -> bool:
        self.met.append(other)
        return False

    __hash__ = None  # type: ignore[assignment]


def registered() -> "List[Callable[..., Any]]":
    """The functions of atexit, in the order in which they were registered.

    The module has no list of them, but its unregister() compares each with what it is given.
    """
    probe = _Probe()
    with contextlib.suppress(Exception):
        atexit.unregister(probe)  # type: ignore[arg-type]
    return probe.met


def all_of_them() -> List[Ending]:
    """All functions that are registered now, whoever has done that."""
    found = [Ending(f"atexit: {named(each)}", None) for each in registered()]
    return found + [Ending(f"weakref.finalize: {named(info.func)}", None) for _, info in _finalizers()]


def _finalizers() -> "List[tuple[Any, Any]]":
    """Each living weakref.finalize, with what it knows. There is no public list of these either."""
    return list(getattr(weakref.finalize, "_registry", {}).items())


def _plain(function: Any) -> Any:
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def home(function: Any) -> "tuple[str, str]":
    """The module of a function, and its name there."""
    function = _plain(function)
    kind = type(function)
    module = getattr(function, "__module__", None) or getattr(kind, "__module__", None)
    name = getattr(function, "__qualname__", None) or getattr(kind, "__qualname__", None)
    return str(module), str(name)


def file_of(function: Any) -> str:
    """The file where a function is defined, "" if that is not known."""
    function = _plain(function)
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        return code.co_filename
    return getattr(sys.modules.get(home(function)[0]), "__file__", None) or ""


def named(function: Any) -> str:
    """A function with the line where it is defined, if it has one."""
    name = ".".join(home(function))
    code = getattr(_plain(function), "__code__", None)
    if isinstance(code, types.CodeType) and not code.co_filename.startswith(NOT_THE_APPS):
        return f"{name} ({code.co_filename} line {code.co_firstlineno})"
    return name


def _deletes(closer: Any) -> bool:
    return bool(getattr(closer, "delete", False)) and not getattr(closer, "close_called", False)
