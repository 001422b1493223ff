"""The one place that knows uvicorn from the inside: what is used of it, by its names there.

Of uvicorn are its options, its logging, lifespan and WebSocket protocols. HTTP is this worker's own
(docs/http.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
import time
from email.utils import formatdate
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

from memunit.worker import options, target
from memunit.worker.problem import Unusable, say

KNOWN = "0.17.6 to 0.54.0"
"""The versions that all tests have been run with, and what lies between."""

_FULL_PATHS = (0, 26)  # since this version "path" begins with the root_path, as ASGI has it


class Uvicorn:
    """The app's own uvicorn, configured by UVICORN_* and `fixed`, with no app yet. Raises Unusable."""

    def __init__(self, environment: Mapping[str, str], fixed: Mapping[str, Any]) -> None:
        module = _import()
        self.version: str = getattr(module, "__version__", "of unknown version")
        with self.fitting():
            self._chosen = options.read(environment, module.Config)
        # HTTP is spoken by none of uvicorn's own protocols: with a class in their place, none of them is imported.
        # And whom to believe X-Forwarded-* is decided in proxied.py, alike with every version.
        given = {**self._chosen, **fixed, "http": asyncio.Protocol, "proxy_headers": False}
        try:
            self._config = module.Config(None, **given)
        except (KeyError, ValueError, TypeError) as error:
            raise options.refused(self._chosen, error) from None
        if self._chosen["access_log"]:
            # uvicorn gives this logger the level of all others, which is "warning" unless it is said.
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        for variable, instead in options.useless(environment).items():
            say(f"memunit worker: {variable} has no effect" + (f": use {instead}" if instead else ""))

    def load(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """`app` as ASGI 3, told of its client by the proxies that are trusted. Raises Unusable.

        Reads all that the attributes below say.
        """
        config = self._config
        config.app = app
        try:
            config.load()
        except Exception as error:
            # Only now it looks up by name what is to speak WebSocket, and its own errors are plain ones.
            raise options.refused(self._chosen, error) from None
        with self.fitting():
            self._state_class = importlib.import_module("uvicorn.server").ServerState
            self._websocket_class = config.ws_protocol_class
            self._lifespan_class = config.lifespan_class
            proxied = self._chosen.get("proxy_headers", True)
            self.forwarded_allow_ips = config.forwarded_allow_ips if proxied else None
            """Who is believed X-Forwarded-*; None if nobody is."""
            self.keep_alive = float(config.timeout_keep_alive)
            """Seconds that a connection may be idle."""
            self.root_path = str(config.root_path)
            """Where the app is mounted."""
            self.full_paths = _numbers(self.version) >= _FULL_PATHS
            """Whether "path" begins with the root_path."""
            self.limit_concurrency: Optional[int] = config.limit_concurrency
            """How many connections or requests there may be at once."""
            self.asgi_version = str(config.asgi_version)
            self.date_header = bool(config.date_header)
            self.encoded_headers = list(config.encoded_headers)
            """What every answer has besides Date."""
            return config.loaded_app  # type: ignore[no-any-return]

    def use(self, app: Callable[..., Any]) -> None:
        """Have WebSockets and lifespan call `app`."""
        self._config.loaded_app = app

    def lifespan(self) -> Any:
        """An object with startup(), shutdown(), should_exit and, in newer versions, state."""
        with self.fitting():
            return self._lifespan_class(self._config)

    def websockets(self, connections: Any, app_state: Optional[Dict[str, Any]]) -> "Optional[WebSockets]":
        """What makes WebSocket protocols that enter themselves in `connections`; None if there are to be none."""
        if self._websocket_class is None:
            return None
        with self.fitting():
            return WebSockets(
                self, self._websocket_class, self._config, self._state_class(), connections, app_state
            )

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """An error in this block means that memunit does not know this version of uvicorn: raises Unusable."""
        try:
            yield
        except Unusable:
            raise
        except Exception as error:
            raise Unusable(
                f"uvicorn {self.version} does not fit this memunit ({target.describe(error)});"
                f" versions {KNOWN} are known to work",
                cause=error,
            ) from None


class WebSockets:
    """Makes a protocol for each connection that becomes a WebSocket."""

    def __init__(
        self,
        uvicorn: Uvicorn,
        protocol: Callable[..., Any],
        config: Any,
        state: Any,
        connections: Any,
        app_state: Optional[Dict[str, Any]],
    ) -> None:
        self._uvicorn = uvicorn
        self._protocol = protocol
        self._state = state
        self._state.connections = connections
        self._arguments = {"config": config, "server_state": state}
        if app_state is not None:
            self._arguments["app_state"] = app_state

    @property
    def tasks(self) -> "set[asyncio.Task[Any]]":
        """The apps at work."""
        return self._state.tasks  # type: ignore[no-any-return]

    def make(self) -> Any:
        """A protocol. To be given connection_made(), and the handshake as it came by data_received()."""
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [
            *([(b"date", date)] if self._uvicorn.date_header else []),
            *self._uvicorn.encoded_headers,
        ]
        return self._protocol(**self._arguments)


def close_late(send: Any, patience: float, transport: Callable[[Any, Any], Any]) -> None:
    """Have the WebSocket protocol of this `send` close only after the client's closing frame, or after `patience`.

    `transport(real, protocol)` stands in for the transport of one that would close at once. Nothing is done for one
    that is not known, or that waits by itself; but its patience is cut to this one.
    """
    protocol: Any = getattr(send, "__self__", None)
    if hasattr(protocol, "close_timeout") and hasattr(protocol, "close_timer"):  # uvicorn 0.53 and later
        protocol.close_timeout = min(protocol.close_timeout, patience)
    elif hasattr(protocol, "conn") and hasattr(protocol, "transport"):
        protocol.transport = transport(protocol.transport, protocol)


def _numbers(version: str) -> Tuple[int, ...]:
    """The first two numbers of a version; those of the newest for what is no version."""
    try:
        return tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        return (999, 0)


def _import() -> Any:
    try:
        return importlib.import_module("uvicorn")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "uvicorn":
            remedy = "apt install python3-uvicorn" if sys.executable.startswith("/usr/bin/") else None
            remedy = remedy or f"{sys.executable} -m pip install uvicorn"
            raise Unusable(
                f"{sys.executable} has no uvicorn, which serves ASGI and WSGI apps: {remedy}"
            ) from None
        raise Unusable(f"cannot import uvicorn: {target.describe(error)}", cause=error) from None
