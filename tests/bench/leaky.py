"""An ASGI app that leaks at each request, in another place than its slot's last worker, and than the other slot.

So no three reports in a row are alike, and each worker is examined.
"""

import os
from typing import Any

PLACES = 3
SLOTS = 2
_PIECES, _SIZE = 16, 16384
# Names of the module: what they hold is named by them.
globals().update({f"KEPT_{number}": [] for number in range(PLACES * SLOTS)})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Keep a quarter of a mebibyte, and answer with the pid."""
    if scope["type"] != "http":
        return
    slot, generation = int(os.environ["MEMUNIT_SLOT"]), int(os.environ["MEMUNIT_GENERATION"])
    kept = globals()[f"KEPT_{slot * PLACES + generation % PLACES}"]
    kept.extend(bytearray(b"x" * _SIZE) for _ in range(_PIECES))
    body = b"ok %d\n" % os.getpid()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
