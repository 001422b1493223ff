"""An ASGI app on the master's sockets: all that its workers share, made before they are (docs/preload.md)."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, List, Optional

from memunit.worker import (
    bounds,
    frameworks,
    giving,
    httpparse,
    inherited,
    loops,
    patched,
    selftest,
    target,
)
from memunit.worker.hooks import Hooks
from memunit.worker.inherited import Inherited
from memunit.worker.life import Worker
from memunit.worker.notify import Notify, notifying
from memunit.worker.parts import Parts
from memunit.worker.problem import Unusable
from memunit.worker.proxied import Trusted, from_proxies
from memunit.worker.serving import Server, Threaded
from memunit.worker.uvicorns import Uvicorn


def prepare(
    app_name: str,
    *,
    bridge: Optional[Callable[[Any], Any]] = None,
    fixed: Optional[Dict[str, Any]] = None,
) -> Server:
    """Import uvicorn and the ASGI app `app_name` ("module:attribute"), and all that serving needs but a loop.

    What comes back serves until SIGTERM or SIGINT: 0 after a drain, 70 when the app's own start-up or shutdown
    failed. Raises Unusable (exit status 78) when there is no uvicorn or no such app, and later when no socket
    fits. `bridge` makes a Threaded (a wsgi.Bridge) of what is loaded, `fixed` are the options of uvicorn.Config
    that go with it.
    """
    uvicorn = Uvicorn(os.environ, fixed or {})
    reader = httpparse.reader(os.environ.get("UVICORN_HTTP", ""))
    limits = bounds.read(os.environ)
    app: Any = target.load(app_name)
    patched.refuse("asgi" if bridge is None else "wsgi")
    frameworks.watch()
    target.refuse_factory(app, app_name)
    if bridge is None:
        target.refuse_wsgi(app, app_name)
    else:
        app = bridge(app)
    loaded = uvicorn.load(app)
    allowed = uvicorn.forwarded_allow_ips
    trusted = None if allowed is None else Trusted(allowed)
    threaded: Optional[Threaded] = None if bridge is None else app
    if trusted is not None and threaded is None:
        loaded = from_proxies(loaded, trusted)
    parts = Parts(uvicorn, reader, limits, threaded, trusted)
    new_loop = loops.maker()
    tried: List[bool] = []
    made: List[Worker] = []

    def make(entries: List[Inherited], hooks: Hooks) -> Worker:
        listeners = inherited.open_stream_listeners(entries)
        worker = Worker(parts, loaded, listeners, hooks.before_stop)
        worker.giver = giving.Giver(hooks.give_back)
        return worker

    def rehearse(entries: List[Inherited], hooks: Hooks) -> None:
        worker = Worker(parts, selftest.app, [])
        # A ping of a worker with threads would start one.
        with notifying(pings=threaded is None) as worker.notify:
            worker.notify.renewed()
            loops.rehearse(worker.rehearse(), new_loop())
        tried.append(True)
        if threaded is None and loops.NONE_NEEDED and not made:
            with contextlib.suppress(Unusable):  # a worker says it
                worker = make(entries, hooks)
                worker.arrange()
                made.append(worker)

    def serve(entries: List[Inherited], notify: Notify, hooks: Hooks) -> int:
        worker = made.pop() if made else make(entries, hooks)
        worker.tried = bool(tried)
        worker.be_for(notify)
        try:
            return loops.run(worker, new_loop())
        finally:
            if threaded is not None:
                threaded.end()

    return Server(serve, rehearse)
