"""How a test app tells the test where it is: by the worker's own notify socket."""

from __future__ import annotations

import os
import socket


def tell(text: str) -> None:
    """Send STATUS=`text`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(f"STATUS={text}".encode(), os.environ["NOTIFY_SOCKET"])
