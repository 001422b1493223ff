"""A pool of threads that is honest about being exhausted, and uses as few threads as the work needs."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Deque, List, Optional

Job = Callable[[], None]


class Threads:
    """Runs jobs in at most `most` threads, each made when it is first needed.

    A job goes to the thread that was busy last: what an app keeps per thread (a connection to its database)
    is made no more often than the load demands. Jobs that find no free thread wait in order. A job must not
    raise.

    Of many jobs that come at once, the first wakes a thread, and whoever takes a job while more are there wakes
    the next. So jobs that wait for nothing are done by the one or two threads that are awake, for a thread that wakes
    up costs as much as a short job; and where one waits, another thread takes the next at that moment.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._jobs: Deque[Job] = deque()
        self._idle: List["_Thread"] = []
        self._threads: List["_Thread"] = []
        self._busy = 0
        self._roused = False  # a thread is on its way to the jobs
        self._ending = False
        self._freed: Optional[Callable[[], None]] = None

    @property
    def exhausted(self) -> bool:
        """Whether the next job would have to wait."""
        return self._busy + len(self._jobs) >= self.most

    def submit(self, job: Job) -> None:
        """Have `job` run. RuntimeError when there is no thread, and none can be started."""
        with self._lock:
            self._jobs.append(job)
            if not self._roused:
                self._rouse()

    def when_free(self, call: Callable[[], None]) -> None:
        """Call `call` once, in whatever thread comes to it, as soon as not all threads are busy."""
        with self._lock:
            if self.exhausted:
                self._freed = call
                return
        call()

    def finish(self) -> None:
        """End the threads, after the jobs that they have; blocks until that is done."""
        self.end()
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """As finish(), without waiting. No job comes after that."""
        with self._lock:
            self._ending = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.wake.release()

    def next(self, thread: "_Thread", *, woken: bool) -> Optional[Job]:
        """What `thread` does next, which was `woken`, or is done with a job; None if there is nothing."""
        freed = None
        with self._lock:
            if woken:
                self._roused = False
            else:
                self._busy -= 1
            job = None
            if self._jobs:
                job = self._jobs.popleft()
                self._busy += 1
                if self._jobs and not self._roused:
                    self._rouse()
            elif self._ending:
                thread.over = True
            elif woken:  # for nothing: others are busier
                self._idle.insert(0, thread)
            else:
                self._idle.append(thread)
            if self._freed is not None and not self.exhausted:
                freed, self._freed = self._freed, None
        if freed is not None:
            freed()
        return job

    def _rouse(self) -> None:
        if self._idle:
            self._roused = True
            self._idle.pop().wake.release()
        elif len(self._threads) < self.most:
            self._roused = self._grow()

    def _grow(self) -> bool:
        thread = _Thread(self, f"memunit-{len(self._threads) + 1}")
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # the system's limit
            self._threads.pop()
            if not self._threads:
                self._jobs.pop()
                raise
            return False
        return True


class _Thread(threading.Thread):
    def __init__(self, pool: Threads, name: str) -> None:
        # Not a daemon, for a thread that the app starts in a request inherits that, and would be cut off at the end.
        super().__init__(name=name, daemon=False)
        self.over = False
        self.wake = threading.Lock()
        self.wake.acquire()
        self._pool = pool

    def run(self) -> None:
        wait, following = self.wake.acquire, self._pool.next
        job = following(self, woken=True)
        while not self.over:
            if job is None:
                wait()
                job = following(self, woken=True)
            else:
                job()
                job = following(self, woken=False)
