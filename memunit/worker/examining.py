"""For `memunit check --import`: import an app, report what a fork of this process would break, and end.

The report is one packet, {"ready", "hazards", "notes", "lingers"} or {"unusable"}, as a zygote sends it.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from typing import Any, Dict

from memunit.worker import endings, hazards, servers, tracing
from memunit.worker.problem import FORKED, Unusable


def run(named: servers.Named, descriptor: int) -> int:
    """Tell it on `descriptor`; the exit status is 0 if the app could be imported."""
    os.set_inheritable(descriptor, False)
    control = socket.socket(fileno=descriptor)
    own = os.getpid()
    tracer = tracing.Tracer(named.packages)
    message: Dict[str, Any]
    try:
        with tracer:
            servers.prepare(named)
        if os.getpid() != own:
            raise Unusable(FORKED.format(own, os.getpid()))
    except Unusable as problem:
        if os.getpid() == own:
            control.send(json.dumps({"unusable": str(problem)[:2000]}).encode())
        return problem.exit_status
    gc.collect()
    ends = endings.Endings(named.packages)
    found = hazards.found(descriptor, (), ends, tracer.line)
    message = {"ready": True, "hazards": found.hazards, "notes": found.notes, "lingers": bool(ends)}
    control.send(json.dumps(message).encode())
    ends.run()
    os._exit(0)
