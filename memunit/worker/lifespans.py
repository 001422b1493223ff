"""What the app makes of ASGI's lifespan, said where uvicorn says nothing.

An app that raises in its lifespan has none, and the server goes on (ASGI, Lifespan Protocol): that is for apps that
know nothing of it. uvicorn takes everything else for the same: an app that could not reach its database at its
start-up is ready without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from typing import Any, Awaitable, Callable, Dict

from memunit.worker import signals, target
from memunit.worker.problem import say

Message = Dict[str, Any]


class Lifespan:
    """The app's lifespan. `failure` is why its start-up failed, in the app's words or its exception's; "" if not."""

    def __init__(self) -> None:
        self.failure = ""
        self.exits = False
        """Whether the app has asked for the end of the process, by SystemExit."""
        self._phase = ""
        self._complete = False
        self._failed = False

    async def run(
        self,
        app: Callable[..., Awaitable[None]],
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Call `app` for the lifespan's scope. Raises what it raises."""

        async def hear() -> Message:
            message = await receive()
            self._phase = message["type"]
            self._complete = False
            return message

        async def report(message: Message) -> None:
            kind = message["type"]
            self._complete = kind.endswith((".complete", ".failed"))
            self._failed = self._failed or kind.endswith(".failed")
            if kind == "lifespan.startup.failed":
                self.failure = str(message.get("message", ""))
            await send(message)

        try:
            await app(scope, hear, report)
        except BaseException as error:
            if signals.forked:
                signals.leave(error)
            self._raised(error)
            raise

    def _raised(self, error: BaseException) -> None:
        while isinstance(error, BaseException) and len(getattr(error, "exceptions", ())) == 1:
            error = error.exceptions[0]  # type: ignore[attr-defined]  # an anyio or asyncio TaskGroup's
        mandatory = os.environ.get("UVICORN_LIFESPAN") == "on"
        what = target.describe(error)
        if isinstance(error, SystemExit):
            signals.status_of(error)
            if self._phase != "lifespan.shutdown":
                self.exits, self.failure = True, what
            return
        if not isinstance(error, Exception) or self._failed:
            return
        if not self._phase and _declines(error):
            return
        if self._phase == "lifespan.shutdown":
            where = "at lifespan.shutdown: the app's shutdown is not complete"
        elif self._complete:
            where = "in its lifespan, after its start-up: the worker serves on, and the app gets no lifespan.shutdown"
        elif mandatory:
            self.failure = what
            return  # uvicorn says it, and ends
        else:
            where = (
                f"at {self._phase or 'the lifespan scope'}: the worker serves without a lifespan, as the ASGI "
                "specification says; "
                "UVICORN_LIFESPAN=on makes this an error, =off asks for no lifespan"
            )
        say(f"memunit worker: the app raised {what} {where}")
        if self._phase and not mandatory:
            traceback.print_exception(type(error), error, error.__traceback__)


async def surely(task: "asyncio.Task[None]") -> None:
    """Wait for `task`, also where the app's handler has cancelled all tasks, and so the one that waits here."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def _declines(error: Exception) -> bool:
    """Whether that is an app's way to say that it has no lifespan: an assertion, or words that name it.

    "Django can only handle ASGI/HTTP connections, not lifespan."
    """
    return isinstance(error, (AssertionError, NotImplementedError)) or "lifespan" in str(error).lower()
