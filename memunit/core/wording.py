"""The sentences and fields of the journal: subject, fact, consequence. One place, so that all entries agree."""

from memunit.core.causes import cut_off
from memunit.core.model import Cause, Worker
from memunit.core.quantity import format_size

_SIGNALS = {
    1: "HUP",
    2: "INT",
    3: "QUIT",
    4: "ILL",
    6: "ABRT",
    7: "BUS",
    8: "FPE",
    9: "KILL",
    11: "SEGV",
    13: "PIPE",
    15: "TERM",
    31: "SYS",
}
_EXITS = {
    200: " (CHDIR: its directory is not accessible)",
    202: " (FDS: its sockets or its control group can't be set up)",
    203: " (EXEC: the program can't be executed)",
}


def name(worker: Worker) -> str:
    """ "Worker 0.6 (pid 123)": slot, generation, pid."""
    pid = f"pid {worker.pid}" if worker.pid else "not started yet"
    return f"Worker {worker.id.slot}.{worker.id.generation} ({pid})"


def workers(count: int) -> str:
    """ "1 worker", "2 workers"."""
    return f"{count} worker{'' if count == 1 else 's'}"


def seconds(value: float) -> str:
    """Seconds for a sentence, no more exact than a person wants."""
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def coarse(value: float) -> str:
    """A time to come in one unit: "2 days", "3 h", "20 min", "under a minute"."""
    for size, unit in ((86400, " days"), (3600, " h"), (60, " min")):
        if value >= 2 * size or (unit == " min" and value >= size):
            return f"{value / size:.0f}{unit}"
    return "under a minute"


def usage(worker: Worker) -> str:
    """ "162M of 160M (uss)", or nothing where nothing was measured."""
    measured = worker.memory if worker.decided_memory is None else worker.decided_memory
    if measured is None:
        return ""
    bound = f" of {format_size(worker.limit)}" if worker.limit is not None else ""
    return f"{format_size(measured)}{bound} ({worker.metric})"


def how(code: str, status: int, *, ran: bool) -> str:
    """ "exited with status 3", "killed by SIGSEGV". Once its program `ran`, 203 is its own."""
    if code == "stuck":
        return "not gone after SIGKILL (it is in an uninterruptible sleep, or has become another user's)"
    if code == "unknown":
        return "ended, and another wait() of this program has taken its status"
    if code == "exited":
        return f"exited with status {status}{'' if ran else _EXITS.get(status, '')}"
    return f"killed by SIG{_SIGNALS.get(status, str(status))}" + (
        " (core dumped)" if code == "dumped" else ""
    )


def outcome(worker: Worker, cause: Cause, code: str, status: int) -> str:
    """One clause for the status line about an accident."""
    end = how(code, status, ran=worker.ran)
    said = f": {worker.status}" if worker.status and cause is Cause.START_FAILED else ""
    what = {
        Cause.START_FAILED: "failed to start",
        Cause.START_TIMEOUT: "was not ready in time",
        Cause.WATCHDOG: "stopped answering its watchdog",
        Cause.MEMORY_CEILING: "hit its memory ceiling",
    }.get(cause, end)
    return f"worker {worker.id.slot} {what}{said}" + (f" ({end})" if cause is Cause.START_FAILED else "")


def grows(worker: Worker) -> str:
    """ ", growing 12M an hour", or nothing where that can't be said."""
    return f", growing {format_size(int(worker.growth * 3600))} an hour" if worker.growth > 0 else ""


def stopping(worker: Worker) -> str:
    """The sentence of an entry about a worker that is being stopped."""
    if worker.phase.value == "stop-sigkill":
        return f"{name(worker)} is killed: {worker.force}{_detail(worker, worker.force)}"
    if worker.force is not None:
        return f"{name(worker)} is aborted: {worker.force}; its stacks follow if it can write them"
    return f"{name(worker)} is being stopped: {worker.reason}{_detail(worker, worker.reason)}"


def ended(worker: Worker, cause: Cause, reason: Cause | None, code: str, status: int, now: float) -> str:
    """The sentence of an end entry."""
    during = f" while being stopped for {reason}" if reason is not None else ""
    said = f", last status: {worker.status}" if worker.status and cause is Cause.START_FAILED else ""
    if worker.oom == "outside":
        said += ", by the kernel's OOM killer for want of memory elsewhere: MemoryMax= of the unit, or the machine"
    served = f" after {seconds(now - worker.born)}"
    lost = "; it does not handle SIGTERM: what it was doing is lost" if cut_off(worker, code, status) else ""
    drain = f", {seconds(now - worker.stop_at)} of it to stop" if worker.stop_at is not None else ""
    end = how(code, status, ran=worker.ran)
    return f"{name(worker)} ended: {cause}{_detail(worker, cause)}{during}; {end}{served}{drain}{lost}{said}"


def _detail(worker: Worker, cause: Cause | None) -> str:
    memory = usage(worker)
    if cause is Cause.MEMORY_CEILING and worker.oom == "own" and worker.ceiling is not None:
        peak = f", {format_size(worker.peak)} at most" if worker.peak else ""
        return f" of {format_size(worker.ceiling)} reached, the kernel has killed it{peak}"
    if cause is Cause.MEMORY_CEILING and worker.memory is not None and worker.ceiling is not None:
        return f", {format_size(worker.memory)} of {format_size(worker.ceiling)} ({worker.metric})"
    if memory and cause in (Cause.MEMORY_LIMIT, Cause.PRESSURE):
        return f", {memory}{grows(worker)}"
    return ""


def worker_fields(worker: Worker) -> dict[str, str | int]:
    """The fields that every entry about a worker carries."""
    fields: dict[str, str | int] = {
        "MEMUNIT_SLOT": worker.id.slot,
        "MEMUNIT_GENERATION": worker.id.generation,
        "MEMUNIT_WORKER_PID": worker.pid,
        "MEMUNIT_PHASE": worker.phase.value,
    }
    if worker.reason is not None or worker.force is not None:
        fields["MEMUNIT_STOP_REASON"] = str(worker.reason or worker.force)
    return fields


def end_fields(
    worker: Worker, cause: Cause, reason: Cause | None, code: str, status: int, now: float
) -> dict[str, str | int]:
    """The fields of an end entry: MEMUNIT_CAUSE stands on these alone."""
    fields = worker_fields(worker)
    del fields["MEMUNIT_PHASE"]
    fields.pop("MEMUNIT_STOP_REASON", None)
    fields["MEMUNIT_CAUSE"] = str(cause)
    fields["EXIT_CODE"] = code
    fields["EXIT_STATUS"] = status
    fields["MEMUNIT_UPTIME_USEC"] = int((now - worker.born) * 1_000_000)
    if reason is not None:
        fields["MEMUNIT_STOP_REASON"] = str(reason)
    if worker.stop_at is not None:
        fields["MEMUNIT_DRAIN_USEC"] = int((now - worker.stop_at) * 1_000_000)
    measured = worker.memory if worker.decided_memory is None else worker.decided_memory
    if worker.growth > 0:
        fields["MEMUNIT_GROWTH_BYTES_PER_HOUR"] = int(worker.growth * 3600)
    if worker.peak:
        fields["MEMUNIT_PEAK_BYTES"] = worker.peak
    if measured is not None:
        fields["MEMUNIT_MEMORY_BYTES"] = measured
        fields["MEMUNIT_METRIC"] = worker.metric
    if worker.limit is not None:
        fields["MEMUNIT_LIMIT_BYTES"] = worker.limit
    return fields


def squeezed(bound: int) -> str:
    """The sentence of a MemoryHigh= that has been set to less than what is in use."""
    return (
        f"MemoryHigh= of the unit, or of its slice, is less than what is in use now: it leaves {format_size(bound)} to "
        "the workers. The kernel slows them down, and memunit too if what they hold is over all of it, until systemd's "
        "watchdog ends the service: raise it, or restart the service"
    )
