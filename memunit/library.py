"""`memunit.run`: the master as a library call, for a program that is its own worker.

The calling process becomes the master and forks the workers, which run the caller's function.
"""

import contextlib
import functools
import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memunit.cli.listening import open_listeners
from memunit.cli.start import RuntimeDirectory, names, reloading
from memunit.core.address import AddressError, parse_address
from memunit.core.budget import check_budget
from memunit.core.model import Policy
from memunit.core.quantity import QuantityError, parse_size
from memunit.core.schema import BY_PATH
from memunit.core.settings_texts import ValueProblem
from memunit.core.settings_values import convert
from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.journal import Log
from memunit.master.master import Master
from memunit.master.notify import Systemd
from memunit.master.processors import processors
from memunit.master.sampling import memory_available
from memunit.master.setting import Configuration, ConfigurationError, Setting
from memunit.master.sockets import Access, inherited
from memunit.master.spawn import fork_call, open_descriptors
from memunit.master.startlog import StartLog
from memunit.master.system import fill_standard_descriptors
from memunit.worker.callable import Worker, serve

__all__ = ["Worker", "run"]

Sockets = Sequence[socket.socket | str]


def run(
    limit: int | str | None,
    run: Callable[[Worker], Any],
    clean: Callable[[], Any] | None = None,
    *,
    workers: int | None = None,
    interval: float | str = 5.0,
    grace: float | str = 5.0,
    sockets: Sockets | None = None,
    ceiling: int | str | None = None,
    patience: float | str = 0.0,
    metric: str = "uss",
    surge: int = 1,
    min_lifetime: float | str = 10.0,
    max_age: float | str = "infinity",
    start_timeout: float | str = 30.0,
    watchdog: float | str = 30.0,
    name: str | None = None,
) -> int:
    """Run `run(worker)` in several workers and replace each worker over `limit`. Returns after a request to stop.

    `limit` and `ceiling` are bytes or text such as "400M" (None: no bound). Times are seconds or text such as "1min",
    within the bounds of memunit.toml(5). In each worker `run` serves on `worker.sockets`, calls `worker.ready()` when
    it serves, and returns soon after `worker.stopping` is set. Before that, `clean()` runs in the worker, while the
    worker still accepts. The master kills the worker after `grace`. A worker that has called `worker.ping()` once is
    aborted when it is silent for longer than `watchdog` (0 or infinity: never).

    `sockets` are listening sockets, or addresses as in ListenStream= (systemd.socket(5)); by default the sockets from
    systemd, if any. `workers` defaults to the number of CPUs that this process may use. Two environment variables
    override the arguments, for operators who can't change the program: CPU_COUNT for `workers`, and CHECK_INTERVAL, in
    milliseconds, for `interval`. The `metric` "uss" counts the memory that only the worker holds, without the memory
    that it has shared with the master since the fork.

    Returns the exit code: 0 after SIGTERM or SIGINT, 69 if no worker ever became ready. Raises ValueError for
    unusable arguments, RuntimeError outside of the main thread, and OSError if it can't listen on an address or if the
    master can't make its own sockets. SIGHUP replaces all workers one by one, SIGTTIN and SIGTTOU change their number,
    and SIGUSR1 writes the state to the log.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("memunit.run handles signals, and so has to be called in the main thread")
    policy = Policy(
        count=_count(workers, os.environ),
        surge=_at_least("surge", surge, 0),
        start_timeout=_seconds("workers.start_timeout", start_timeout),
        watchdog=_seconds("workers.watchdog", watchdog),
        min_lifetime=_seconds("workers.min_lifetime", min_lifetime),
        max_age=_seconds("workers.max_age", max_age),
        limit=_size("limit", limit),
        ceiling=_size("ceiling", ceiling),
        patience=_seconds("memory.patience", patience),
        grace=_seconds("stop.grace", grace),
        tells_stacks=True,
    )
    if metric not in ("uss", "pss", "rss"):
        raise ValueError(f"metric: {metric!r} is not known; say uss, pss or rss")
    if policy.limit is not None and policy.ceiling is not None and policy.limit > policy.ceiling:
        raise ValueError("limit is over ceiling: no worker would live to be replaced; raise the ceiling")
    configuration = Configuration(
        policy=policy,
        argv=(),
        environment=dict(os.environ),
        directory=None,
        metric=metric,
        interval=_interval(interval, os.environ),
        warnings=_threads(),
    )
    try:
        _fits(configuration)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    listening, own = _open(sockets)
    instance = name or Path(sys.argv[0] or "python").name
    fill_standard_descriptors()
    # Before the master opens anything: what the program has open is the workers' too.
    keep = open_descriptors()

    def child() -> int:
        slot, generation = int(os.environ["MEMUNIT_SLOT"]), int(os.environ["MEMUNIT_GENERATION"])
        return serve(run, clean, sockets=listening, slot=slot, generation=generation)

    def start(launch: Launch) -> Child:
        return fork_call(child, launch, keep=keep)

    def load() -> Configuration:
        _fits(configuration)
        return configuration

    try:
        with RuntimeDirectory() as runtime, contextlib.closing(Systemd()) as systemd:
            setting = Setting(
                instance=instance,
                sockets=names([(instance, sock) for sock in listening]),
                notify_path=runtime.file("notify"),
                control_path=runtime.file("control"),
                log=Log(instance),
                systemd=systemd,
                start_log=StartLog(runtime.lasting),
                load=reloading(load),
                start=start,
                sole=False,
            )
            return Master(setting, configuration).run()
    finally:
        for sock in own:
            sock.close()


def _fits(configuration: Configuration) -> None:
    room = memory_available()
    policy = configuration.policy
    budget = check_budget(
        count=policy.count, limit=policy.limit, surge=policy.surge, total=room.total, source=room.source
    )
    if budget.kind == "too-small":
        raise ConfigurationError(f"limit: {budget.text}; {budget.remedy}")


def _open(sockets: Sockets | None) -> tuple[list[socket.socket], list[socket.socket]]:
    """The sockets to serve on, and those of them that are ours to close."""
    if sockets is None:
        return list(_passed()), []
    listening: list[socket.socket] = []
    own: list[socket.socket] = []
    try:
        for given in sockets:
            if isinstance(given, str):
                bound = _bind(given)
                own += bound
                listening += bound
            else:
                listening.append(given)
    except BaseException:
        for sock in own:
            sock.close()
        raise
    return listening, own


@functools.cache
def _passed() -> tuple[socket.socket, ...]:
    """What systemd has passed: taken once, and there for a second call too."""
    return tuple(sock for _, sock in inherited())


def _bind(text: str) -> list[socket.socket]:
    try:
        address = parse_address(text)
    except AddressError as error:
        raise ValueError(f"sockets: {error}") from None
    with contextlib.ExitStack() as opened:
        bound = open_listeners([address], Access(), opened)
        opened.pop_all()
    return list(bound)


def _count(workers: int | None, environment: Mapping[str, str]) -> int:
    said = environment.get("CPU_COUNT", "")
    if said:
        if not (said.isascii() and said.isdigit() and int(said)):
            raise ValueError(f"CPU_COUNT={said}: a number of workers is needed, 1 or more")
        return int(said)
    return processors() if workers is None else _at_least("workers", workers, 1)


def _interval(interval: float | str, environment: Mapping[str, str]) -> float:
    said = environment.get("CHECK_INTERVAL", "")
    if said:
        if not (said.isascii() and said.isdigit() and int(said)):
            raise ValueError(f"CHECK_INTERVAL={said}: milliseconds are needed, 1 or more")
        return int(said) / 1000
    if interval == 0:
        raise ValueError("interval: 0 would leave no time for anything else; say 1.0")
    return _seconds("memory.interval", interval)


def _size(name: str, value: int | str | None) -> int | None:
    if value is None:
        return None
    try:
        size = value if isinstance(value, int) and not isinstance(value, bool) else parse_size(value)
    except QuantityError as error:
        raise ValueError(f"{name}: {error}") from None
    if size is not None and size <= 0:
        raise ValueError(f'{name}: {size} bytes is less than any program needs; say a size such as "400M"')
    return size


def _seconds(path: str, value: float | str) -> float:
    """As a file's key: what is refused there has no meaning here either."""
    key = BY_PATH[path]
    try:
        return float(convert(key, "infinity" if value == math.inf else value))
    except ValueProblem as problem:
        (message, remedy), *_ = problem.faults
        raise ValueError(f"{key.name}: {message}" + (f"; {remedy}" if remedy else "")) from None


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}: {value} is too few; {least} is the least")
    return value


def _threads() -> tuple[str, ...]:
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if not others:
        return ()
    return (
        f"other threads are running ({', '.join(others)}): workers are forked without them, and a lock that one of "
        "them holds stays locked there; start threads in run()",
    )
