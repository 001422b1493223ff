"""What an administrator may set of uvicorn: UVICORN_*, the environment variables of its own command line.

Those that mean nothing here are named, with what to say instead.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Mapping

from memunit.worker import target
from memunit.worker.problem import Unusable

_TEXTS = ("ws", "lifespan", "interface", "log_level", "root_path", "forwarded_allow_ips")
_NUMBERS = (
    "timeout_keep_alive",
    "limit_concurrency",
    "ws_ping_interval",
    "ws_ping_timeout",
    "ws_max_size",
    "ws_max_queue",
)
_SWITCHES = ("proxy_headers", "server_header", "date_header", "access_log", "ws_per_message_deflate")
_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


_USED_ELSEWHERE = ("http", "loop")
_INSTEAD = {
    "workers": "workers.count",
    "host": "socket.listen, or ListenStream= of the socket unit",
    "port": "socket.listen, or ListenStream= of the socket unit",
    "uds": "socket.listen, or ListenStream= of the socket unit",
    "fd": "socket.listen, or ListenStream= of the socket unit",
    "backlog": "Backlog= of the socket unit",
    "app": "app.run",
    "app_dir": "app.directory",
    "factory": 'app.run = "module:create_app()"',
    "env_file": "app.environment, or /etc/memunit/INSTANCE.env",
    "log_config": "the app's own configuration of logging",
    "use_colors": "nothing: the journal has no colours",
    "limit_max_requests": "memory.limit, or workers.max_age",
    "limit_max_requests_jitter": "memory.limit, or workers.max_age",
    "timeout_graceful_shutdown": "stop.grace",
    "timeout_worker_healthcheck": "workers.watchdog",
    "headers": "the app's or the proxy's own headers",
    "h11_max_incomplete_event_size": "http.head_size",
}
_INSTEAD_BEGINS = {"reload": "memunit reload", "ssl_": "the proxy's TLS"}


def useless(environment: Mapping[str, str]) -> Dict[str, str]:
    """The UVICORN_* variables that nothing here reads: what to use in the place of each, "" if it is not known."""
    found: Dict[str, str] = {}
    for variable in sorted(environment):
        if not variable.startswith("UVICORN_"):
            continue
        name = variable[len("UVICORN_") :].lower()
        if name in (*_TEXTS, *_NUMBERS, *_SWITCHES, *_USED_ELSEWHERE):
            continue
        begins = (text for begin, text in _INSTEAD_BEGINS.items() if name.startswith(begin))
        found[variable] = _INSTEAD.get(name) or next(begins, "")
    return found


def read(environment: Mapping[str, str], config: Callable[..., Any]) -> Dict[str, Any]:
    """Keyword arguments for uvicorn.Config (`config`, of any version) out of `environment`.

    UVICORN_TIMEOUT_KEEP_ALIVE=75 is timeout_keep_alive=75. Unless it says otherwise: warnings and errors
    only, and no access log, since each line would land in the journal; MEMUNIT_ACCESS_LOG is the key
    app.access_log. Raises Unusable for a value that is none.
    """
    asked = environment.get("MEMUNIT_ACCESS_LOG", "") == "true"
    chosen: Dict[str, Any] = {"log_level": "warning", "access_log": asked}
    known = inspect.signature(config).parameters
    for name in (*_TEXTS, *_NUMBERS, *_SWITCHES):
        variable = "UVICORN_" + name.upper()
        value = environment.get(variable, "")
        if not value or name not in known:
            continue
        if name in _NUMBERS:
            if not (value.isascii() and value.isdigit()):
                raise Unusable(f"{variable}={value}: a whole number is needed")
            chosen[name] = int(value)
        elif name in _SWITCHES:
            if value.lower() not in _WORDS:
                raise Unusable(f"{variable}={value}: true or false is needed")
            chosen[name] = _WORDS[value.lower()]
        else:
            chosen[name] = value
    return chosen


def refused(chosen: Mapping[str, Any], error: Exception) -> Unusable:
    """uvicorn did not take what was `chosen` by read(): which variable it was, as far as `error` tells."""
    text = str(error)
    named = [
        f"UVICORN_{name.upper()}={value}"
        for name, value in chosen.items()
        if isinstance(value, str) and any(q + value.partition(":")[0] + q in text for q in "'\"")
    ]
    what = ", ".join(named) or "what it was given"
    return Unusable(f"uvicorn refuses {what}: {target.describe(error)}", cause=None if named else error)
