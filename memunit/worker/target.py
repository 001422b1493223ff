"""From "module:attribute" to the object, with errors that name what to mend."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from typing import Any, Callable

from memunit.worker.problem import Unusable


def load(target: str) -> Callable[..., Any]:
    """Import `target` and return its callable.

    "shop.web:app" is an attribute, "shop.web:site.app" an attribute of one, and "shop.web:create_app()" what
    that function returns, called without arguments. Raises Unusable; its cause is the app's own exception, if
    any.
    """
    module_name, colon, path = target.partition(":")
    factory = path.endswith("()")
    path = path[:-2] if factory else path
    if not colon or not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise Unusable(f"{target!r} does not name an app; write module:attribute, as in shop.web:app")
    found: Any = _import(module_name)
    walked = module_name
    for part in path.split("."):
        if not hasattr(found, part):
            raise Unusable(f"{walked} has no attribute {part!r} (from {target!r}{_origin(found)})")
        found = getattr(found, part)
        walked += "." + part
    if not callable(found):
        raise Unusable(f"{target} is not callable: it is {_article(type(found).__name__)}, not an app")
    if not factory:
        return found  # type: ignore[no-any-return]
    try:
        made = found()
    except BaseException as error:
        raise Unusable(f"{target} failed: {describe(error)}", cause=error) from None
    if not callable(made):
        raise Unusable(f"{target} returned {_article(type(made).__name__)}, not an app")
    return made  # type: ignore[no-any-return]


def refuse_factory(app: Callable[..., Any], target: str) -> None:
    """Raise Unusable when `app` can only be a factory: what takes no argument answers no request."""
    if not inspect.isroutine(app) and not isinstance(app, functools.partial):
        return
    try:
        parameters = inspect.signature(app).parameters
    except (TypeError, ValueError):
        return
    if not parameters:
        raise Unusable(f"{target} takes no arguments, so it is not an app but makes one; write {target}()")


def refuse_wsgi(app: Callable[..., Any], target: str) -> None:
    """Raise Unusable when `app` can only be a WSGI app: it takes two arguments, and no coroutine comes of it."""
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004
        return
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) == 2 and all(each.kind in plain and each.default is each.empty for each in parameters):
        raise Unusable(f'{target} is a WSGI app: say server = "wsgi"')


def describe(error: BaseException) -> str:
    """One line of an exception: "ModuleNotFoundError: No module named 'x'"."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        where = ""
        if isinstance(error, ModuleNotFoundError) and error.name in {name, name.partition(".")[0]}:
            where = f" (looked in {os.getcwd()} first; interpreter {sys.executable})"
        raise Unusable(f"cannot import {name}: {describe(error)}{where}", cause=error) from None


def _origin(found: Any) -> str:
    """Where a module came from: perhaps not from the app's folder, as one that has a name of the standard library's."""
    if not inspect.ismodule(found):
        return ""
    file = getattr(found, "__file__", None)
    if file:
        return f"; it was imported from {file}"
    folders = list(getattr(found, "__path__", ()))
    if folders:
        return f"; it is a folder without an __init__.py: {folders[0]}"
    return f"; it is a module of {sys.executable}"


def _article(noun: str) -> str:
    return ("an " if noun[:1] in "aeiouAEIOU" else "a ") + noun
