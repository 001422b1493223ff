"""The app's own words in a worker's life: `after_fork`, `before_stop` and `give_back`, each "module:attribute"."""

from __future__ import annotations

import inspect
import traceback
from typing import Any, Callable, Optional

from memunit.worker import standard, target
from memunit.worker.problem import EX_SOFTWARE, Unusable

Hook = Callable[[], Any]


class Hooks:
    """The loaded hooks of one app. Raises Unusable for a name that leads to no callable."""

    def __init__(
        self, after_fork: Optional[str], before_stop: Optional[str], give_back: Optional[str] = None
    ) -> None:
        self._name = after_fork
        self._after_fork: Optional[Hook] = None if after_fork is None else target.load(after_fork)
        self.before_stop: Optional[Hook] = None if before_stop is None else target.load(before_stop)
        self.give_back: Optional[Hook] = None if give_back is None else target.load(give_back)
        if inspect.iscoroutinefunction(self._after_fork):
            raise Unusable(
                f"after_fork {after_fork} is a coroutine function, and no event loop runs yet at that time; "
                "make it a plain function, or use the app's lifespan"
            )

    def after_fork(self) -> None:
        """Call the hook, in a worker that serves nobody yet. Raises Unusable (status 70) when the hook raises."""
        if self._after_fork is None:
            return
        try:
            self._after_fork()
        except (Exception, SystemExit) as error:
            text = f"after_fork {self._name} failed: {target.describe(error)}"
            raise Unusable(text, exit_status=EX_SOFTWARE, cause=error) from None
        standard.fill()


def call(hook: Hook) -> None:
    """Call a hook to its end in a thread that has no event loop, a coroutine function in a loop of its own."""
    found = hook()
    if inspect.isawaitable(found):
        import asyncio  # noqa: PLC0415  a worker without a loop need not pay for its import

        asyncio.run(_wait(found))


async def call_beside(hook: Hook) -> None:
    """Call a hook without holding up the running loop: a coroutine function in it, any other in a thread.

    A traceback is printed for what it raises; a stop is not to be held up by that.
    """
    import asyncio  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    try:
        if inspect.iscoroutinefunction(hook):
            await hook()
            return
        # A thread of its own: the loop's default executor may be full of the app's requests.
        thread = ThreadPoolExecutor(1, "memunit-before-stop")
        try:
            found = await asyncio.get_running_loop().run_in_executor(thread, hook)
        finally:
            thread.shutdown(wait=False)
        if inspect.isawaitable(found):
            await found
    except asyncio.CancelledError:
        raise
    except BaseException:
        traceback.print_exc()


async def _wait(found: Any) -> Any:
    return await found
