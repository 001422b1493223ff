"""From an ASGI scope to a WSGI environ (PEP 3333), with CGI's names (RFC 3875)."""

from __future__ import annotations

import sys
from typing import Any, Dict, Optional, Tuple
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

_PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_KEPT_NAMES = 256
_names: Dict[bytes, Optional[str]] = {
    **_PLAIN,
    # A program that the app starts would take it for the address of a proxy ("httpoxy").
    b"proxy": None,
}


def base(*, threads: int) -> Dict[str, Any]:
    """What is the same for every request of a worker with so many threads."""
    return {
        "SERVER_SOFTWARE": "memunit",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
    }


def make(scope: Dict[str, Any], common: Dict[str, Any], script_name: str) -> Dict[str, Any]:
    """The environ of an HTTP request, still without wsgi.input.

    `script_name` is where the app is mounted ("" or "/shop"): it is taken off the path if the proxy in front
    has left it there. Header names with an underscore are dropped: they would pass for those with a hyphen.
    """
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/") and b"://" in raw:  # the absolute form of RFC 9112, 3.2.2
        raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    query = scope["query_string"].decode("latin-1")
    target = raw.decode("latin-1")
    path = unquote_to_bytes(raw).decode("latin-1") if b"%" in raw else target
    if script_name and (path == script_name or path.startswith(script_name + "/")):
        path = path[len(script_name) :]
    environ = dict(common)
    environ["REQUEST_METHOD"] = scope["method"]
    environ["SCRIPT_NAME"] = script_name
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = f"{target}?{query}" if query else target
    environ["SERVER_PROTOCOL"] = "HTTP/" + scope["http_version"]
    environ["wsgi.url_scheme"] = scope["scheme"]
    for name, value in scope["headers"]:
        key = _names[name] if name in _names else _name(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = environ[key] + (";" if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    environ["SERVER_NAME"], environ["SERVER_PORT"] = _server(scope, environ)
    client = scope.get("client")
    environ["REMOTE_ADDR"] = (client[0] or "") if client else ""
    if client and client[1]:
        environ["REMOTE_PORT"] = str(client[1])
    return environ


def _name(name: bytes) -> Optional[str]:
    key = None if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_names) < _KEPT_NAMES:
        _names[name] = key
    return key


def _server(scope: Dict[str, Any], environ: Dict[str, Any]) -> Tuple[str, str]:
    """Name and port of the server; of the Host header where a Unix socket has neither."""
    server = scope.get("server")
    if server and server[1] is not None:
        return server[0], str(server[1])
    usual = "443" if scope["scheme"] == "https" else "80"
    host = environ.get("HTTP_HOST", "")
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return name or "localhost", port
    return host or "localhost", usual
