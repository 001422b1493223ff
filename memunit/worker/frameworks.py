"""What a framework calls the route of a request, from what it leaves in the scope or the environ. None is imported.

A framework's words are read with care: nothing that they may have become in another version is an error.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any, Dict, Optional

from memunit.worker.work import fold

_DJANGO = "memunit.route"
_DEEPEST = 8
_MOST_ENDPOINTS = 1024
_endpoints: Dict[Any, str] = {}


def of_asgi(scope: Dict[str, Any], root: str) -> Optional[str]:
    """The route of a request that was answered, as "/product/{id}"; None if nobody says.

    `root` is the root_path that it began with.
    """
    with contextlib.suppress(Exception):
        route = scope.get("route")  # FastAPI, and Starlette's later versions
        path = scope.get("path_template")  # Litestar
        if hasattr(route, "endpoint"):  # what is mounted has none, and found no route then
            path = _mounted(scope["root_path"], root) + getattr(route, "path", "")
        if path is None:
            path = scope.get(_DJANGO)
        if path is None and "endpoint" in scope and "router" in scope:
            path = _of_starlette(scope["endpoint"], scope["router"])
        return _text(path)
    return None


def of_wsgi(environ: Dict[str, Any]) -> Optional[str]:
    """The same of a WSGI app, once it has found its route: it has, when it calls start_response()."""
    with contextlib.suppress(Exception):
        path = environ.get(_DJANGO)
        if path is None and "werkzeug.request" in environ:  # Flask
            path = getattr(getattr(environ["werkzeug.request"], "url_rule", None), "rule", None)
        if path is None and "bottle.route" in environ:
            path = getattr(environ["bottle.route"], "rule", None)
        return _text(path)
    return None


def watch() -> None:
    """After the app's import: have Django note the route of a request where it is found later.

    Neither the scope nor the environ leads to Django's request, and the request leads to both.
    """
    with contextlib.suppress(Exception):
        handler: Any = sys.modules["django.core.handlers.base"].BaseHandler
        resolve = handler.resolve_request
        if not hasattr(resolve, "__wrapped__"):
            handler.resolve_request = _noting(resolve)


def _noting(resolve: Any) -> Any:
    @functools.wraps(resolve)
    def resolve_request(self: Any, request: Any) -> Any:
        found = resolve(self, request)
        with contextlib.suppress(Exception):
            kept = request.__dict__
            (kept["scope"] if "scope" in kept else kept["environ"])[_DJANGO] = "/" + found.route.lstrip("^/")
        return found

    return resolve_request


def _of_starlette(endpoint: Any, router: Any) -> Optional[str]:
    """Earlier versions tell the endpoint alone."""
    known = _endpoints.get(endpoint)
    if known is None:
        known = _search(endpoint, getattr(router, "routes", ()), "", _DEEPEST) or ""
        if len(_endpoints) < _MOST_ENDPOINTS:
            _endpoints[endpoint] = known
    return known or None


def _search(endpoint: Any, routes: Any, prefix: str, depth: int) -> Optional[str]:
    for route in routes or () if depth else ():
        path = prefix + str(getattr(route, "path", ""))
        if getattr(route, "endpoint", None) is endpoint:
            return path
        found = _search(endpoint, getattr(route, "routes", None), path, depth - 1)
        if found is not None:
            return found
    return None


def _mounted(now: str, root: str) -> str:
    """Where the app is mounted that has found the route."""
    return fold(now[len(root) :]) if now.startswith(root) else ""


def _text(path: Any) -> Optional[str]:
    return path if isinstance(path, str) and path else None
