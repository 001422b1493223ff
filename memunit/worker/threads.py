"""A pool of threads that is honest about being exhausted, and uses as few threads as the work needs."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Callable, Deque, List, Optional

Job = Callable[[], None]


class Threads:
    """Runs jobs in at most `most` threads, each made when it is first needed.

    A job goes to the thread that was busy last: what an app keeps per thread (a connection to its database)
    is made no more often than the load demands. Jobs that find no free thread wait in order. A job must not
    raise.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._idle: List["_Thread"] = []
        self._waiting: Deque[Job] = deque()
        self._threads: List["_Thread"] = []
        self._freed: Optional[Callable[[], None]] = None

    @property
    def exhausted(self) -> bool:
        """Whether the next job would have to wait."""
        return not self._idle and len(self._threads) >= self.most

    def submit(self, job: Job) -> None:
        """Have `job` run. RuntimeError when there is no thread, and none can be started."""
        with self._lock:
            if self._idle:
                thread = self._idle.pop()
            elif len(self._threads) < self.most and self._grow():
                thread = self._threads[-1]
            else:
                self._waiting.append(job)
                return
        thread.jobs.put(job)

    def when_free(self, call: Callable[[], None]) -> None:
        """Call `call` once, in whatever thread comes to it, as soon as not all threads are busy."""
        with self._lock:
            if self.exhausted:
                self._freed = call
                return
        call()

    def finish(self) -> None:
        """End the threads, after the jobs that they have; blocks until that is done."""
        with self._lock:
            threads, self._idle = self._threads, []
        for thread in threads:
            thread.jobs.put(None)
        for thread in threads:
            thread.join()

    def _grow(self) -> bool:
        thread = _Thread(self._next, f"memunit-{len(self._threads) + 1}")
        try:
            thread.start()
        except RuntimeError:  # the system's limit
            if not self._threads:
                raise
            return False
        self._threads.append(thread)
        return True

    def _next(self, thread: "_Thread") -> Optional[Job]:
        """What `thread`, which is done, does next; None when it is idle now."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
            freed, self._freed = self._freed, None
        if freed is not None:
            freed()
        return None


class _Thread(threading.Thread):
    def __init__(self, following: Callable[["_Thread"], Optional[Job]], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: "queue.SimpleQueue[Optional[Job]]" = queue.SimpleQueue()
        self._following = following

    def run(self) -> None:
        get, following = self.jobs.get, self._following
        while True:
            job = get()
            if job is None:
                return
            while job is not None:
                job()
                job = following(self)
