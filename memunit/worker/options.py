"""What an administrator may set of uvicorn: UVICORN_*, the environment variables of its own command line."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Mapping

from memunit.worker import target
from memunit.worker.problem import Unusable

_TEXTS = ("http", "ws", "lifespan", "interface", "log_level", "root_path", "forwarded_allow_ips")
_NUMBERS = (
    "timeout_keep_alive",
    "limit_concurrency",
    "ws_max_size",
    "ws_max_queue",
    "h11_max_incomplete_event_size",
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


def read(environment: Mapping[str, str], config: Callable[..., Any]) -> Dict[str, Any]:
    """Keyword arguments for uvicorn.Config (`config`, of any version) out of `environment`.

    UVICORN_TIMEOUT_KEEP_ALIVE=75 is timeout_keep_alive=75. Unless it says otherwise: warnings and errors
    only, and no access log, since each line would land in the journal. Raises Unusable for a value that is
    none.
    """
    chosen: Dict[str, Any] = {"log_level": "warning", "access_log": False}
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
