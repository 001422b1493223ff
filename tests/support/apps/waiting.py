"""plain.py in a worker that waits ten minutes for a WebSocket's client to answer the closing frame."""

from __future__ import annotations

from plain import app  # type: ignore[import-not-found]

from memunit.worker import farewell

__all__ = ["app"]

farewell._PATIENCE = 600.0
