"""What a server gives to whoever starts it: a call that serves, and the app with it."""

from __future__ import annotations

from typing import Callable, List, Optional

from memunit.worker.hooks import Hook, Hooks
from memunit.worker.inherited import Inherited
from memunit.worker.notify import Notify

Serve = Callable[[List[Inherited], Notify, Optional[Hook]], int]
"""Serve on these descriptors until told to stop; the exit status. The hook runs between SIGTERM and the stop."""


class Prepared:
    """An app that is imported, with its server and its hooks, and does not serve yet."""

    def __init__(self, serve: Serve, hooks: Hooks) -> None:
        self._serve = serve
        self._hooks = hooks

    def run(self, entries: List[Inherited], notify: Notify) -> int:
        """Serve in this process; the exit status. Raises Unusable."""
        self._hooks.after_fork()
        return self._serve(entries, notify, self._hooks.before_stop)
