"""From a request's head to a WSGI environ (PEP 3333), with CGI's names (RFC 3875)."""

from __future__ import annotations

import sys
from typing import Any, Dict, Optional, Tuple
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from memunit.worker.addresses import Address, Local
from memunit.worker.httphead import Headers, Line, origin_form
from memunit.worker.proxied import Trusted, told

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


def make(
    line: Line,
    headers: Headers,
    client: Optional[Address],
    local: Local,
    *,
    common: Dict[str, Any],
    script_name: str,
    trusted: Optional[Trusted],
) -> Dict[str, Any]:
    """The environ of an HTTP request, still without wsgi.input. `common` is what base() gave.

    `script_name` is where the app is mounted ("" or "/shop"): it is taken off the path if the proxy in front
    has left it there. Header names with an underscore are dropped: they would pass for those with a hyphen.
    `trusted` are the proxies that are believed what they say of the client; None if nobody is.
    """
    method, raw, minor, _ = line
    if raw[0] != 47:
        raw, headers = origin_form(raw, headers)
    uri = raw.decode("latin-1")
    target, _, query = uri.partition("?")
    path = unquote_to_bytes(target).decode("latin-1") if "%" in target else target
    if script_name and (path == script_name or path.startswith(script_name + "/")):
        path = path[len(script_name) :]
    environ = common.copy()
    environ["REQUEST_METHOD"] = method.decode("latin-1")
    environ["SCRIPT_NAME"] = script_name
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = uri if query else target
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
    for name, value in headers:
        key = _names[name] if name in _names else _name(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = environ[key] + (";" if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    scheme = "http"
    if (
        trusted is not None
        and ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_X_FORWARDED_PROTO" in environ)
        and (not client or not client[0] or client[0] in trusted)
    ):
        said, other = told(headers, trusted)
        client = other or client
        if said in ("https", "wss"):
            scheme = "https"
    environ["wsgi.url_scheme"] = scheme
    if local[1] is not None:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = local[0], str(local[1])
    else:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = _server(scheme, environ.get("HTTP_HOST", ""))
    if client is None:
        environ["REMOTE_ADDR"] = ""
    else:
        environ["REMOTE_ADDR"] = client[0]
        if client[1]:
            environ["REMOTE_PORT"] = str(client[1])
    return environ


def _name(name: bytes) -> Optional[str]:
    key = None if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_names) < _KEPT_NAMES:
        _names[name] = key
    return key


def _server(scheme: str, host: str) -> Tuple[str, str]:
    """Name and port of the server, of the Host header: a Unix socket has neither."""
    usual = "443" if scheme == "https" else "80"
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return name or "localhost", port
    return host or "localhost", usual
