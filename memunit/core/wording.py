"""The sentences and fields of the journal: subject, fact, consequence. One place, so that all entries agree."""

from collections.abc import Sequence

from memunit.core.causes import cut_off
from memunit.core.model import FOR_MEMORY, Cause, Gate, Policy, Worker
from memunit.core.quantity import format_size

# signal(7), of all architectures but MIPS, SPARC, Alpha and PA-RISC, from 1 on.
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
_SIGNALS = dict(enumerate(_NAMES.split(), start=1))
_EXITS = {
    200: " (CHDIR: its directory is not accessible)",
    202: " (FDS: its sockets or its control group can't be set up)",
    203: " (EXEC: the program can't be executed)",
}
# Seconds for which a start is held back from which on that is said.
_HELD = 5.0


# What it said last tells how far it came; of the others, what it waited for.
_NEVER_READY = (Cause.START_FAILED, Cause.START_TIMEOUT)
_TOLD_WITH_STATUS = (*_NEVER_READY, Cause.GRACE_EXPIRED, Cause.WATCHDOG)
# memunit why looks for it.
OOM_KILLER = "by the kernel's OOM killer"


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
        return "still there after SIGKILL (it is in an uninterruptible sleep, or belongs to another user now)"
    if code == "unknown":
        return "ended in an unknown way: another process has waited for it"
    if code == "exited":
        return f"exited with status {status}{'' if ran else _EXITS.get(status, '')}"
    return f"killed by {_signal(status)}" + (" (core dumped)" if code == "dumped" else "")


def _signal(number: int) -> str:
    return f"SIG{_SIGNALS.get(number, str(number))}"


def trouble(worker: Worker, cause: Cause, end: str = "") -> str:
    """One clause for the status line about a failure; `end` says how its process ended, if it has."""
    if cause is Cause.START_TIMEOUT and not worker.pid:
        # It was never forked: its zygote still imports, or hangs. LAUNCH_FAILED says which, when the zygote has ended.
        return f"worker {worker.id.slot} can't be started: the app was not imported in time"
    said = f": {worker.status}" if worker.status and cause in _NEVER_READY else ""
    what = {
        Cause.START_FAILED: "failed to start",
        Cause.START_TIMEOUT: "was not ready in time",
        Cause.WATCHDOG: "stopped answering its watchdog",
        Cause.MEMORY_CEILING: "hit its memory ceiling",
    }.get(cause, end)
    return f"worker {worker.id.slot} {what}{said}" + (f" ({end})" if cause is Cause.START_FAILED else "")


def late(worker: Worker) -> str:
    """One clause for the status line about a worker that is still not ready, and has said what it waits for."""
    return f"worker {worker.id.slot} was not ready in time: {worker.status}"


def grows(worker: Worker) -> str:
    """ ", growing 12M an hour", or nothing where that can't be said."""
    return f", growing {format_size(int(worker.growth * 3600))} an hour" if worker.growth > 0 else ""


def gave(times: int, size: int) -> str:
    """ "gave back 131M once", or on the average of several "131M 4 times". `size` is of all."""
    return f"gave back {format_size(size // times)} {'once' if times == 1 else f'{times} times'}"


def again(worker: Worker) -> str:
    """ "; it has given back 524M in 4 times", or nothing of a first time."""
    return (
        f"; it has given back {format_size(worker.given)} in {worker.gifts} times" if worker.gifts > 1 else ""
    )


def stopping(worker: Worker) -> str:
    """The sentence of an entry about a worker that is being stopped."""
    if worker.phase.value == "stop-sigkill":
        return f"{name(worker)} is killed: {worker.force}{_detail(worker, worker.force)}"
    if worker.force is not None:
        return f"{name(worker)} is aborted: {worker.force}; its stacks follow if it can write them"
    if worker.told_stopping and worker.reason is Cause.REQUESTED:
        return f"{name(worker)} says that it stops, and is replaced{last_words(worker)}"
    return f"{name(worker)} is being stopped: {worker.reason}{_detail(worker, worker.reason)}"


def ended(worker: Worker, cause: Cause, reason: Cause | None, code: str, status: int, now: float) -> str:
    """The sentence of an end entry."""
    during = f" while being stopped for {reason}" if reason is not None else ""
    said = last_words(worker) if cause in _TOLD_WITH_STATUS else ""
    if worker.oom == "outside":
        said += f", {OOM_KILLER}: the unit was at its MemoryMax=, or the machine was out of memory"
    served = f" after {seconds(now - worker.born)}"
    lost = ""
    if cut_off(worker, code, status):
        lost = f"; it does not handle {_signal(worker.stop_signal)}: what it was doing is lost"
    drain = f", {seconds(now - worker.stop_at)} of it to stop" if worker.stop_at is not None else ""
    if cause in _CUTS_OFF and worker.requests:
        lost += f"; with {requests(worker.requests, worker.longest)}"
    end = how(code, status, ran=worker.ran)
    if worker.outlived:
        end += " (the status is that of its first process; it had others)"
    return f"{name(worker)} ended: {cause}{_detail(worker, cause)}{during}; {end}{served}{drain}{lost}{said}"


# Ends that cut off what the worker was doing.
_CUTS_OFF = (
    *(Cause.MEMORY_CEILING, Cause.WATCHDOG, Cause.GRACE_EXPIRED),
    *(Cause.CRASH_SIGNAL, Cause.CRASH_EXIT),
)


def requests(count: int, longest: Sequence[tuple[str, float]]) -> str:
    """ "GET /report for 12 s and 2 more in work", the longest first; nothing of none."""
    if not count:
        return ""
    told = [f"{route} for {seconds(age)}" for route, age in longest]
    if count > len(told):
        told.append(f"{count - len(told)} more" if told else f"{count} request{'' if count == 1 else 's'}")
    return f"{', '.join(told[:-1])} and {told[-1]} in work" if len(told) > 1 else f"{told[0]} in work"


def last_words(worker: Worker) -> str:
    """ ", last status: finishing 3 requests", or nothing of one that has said none."""
    return f", last status: {worker.status}" if worker.status else ""


def _detail(worker: Worker, cause: Cause | None) -> str:
    memory = usage(worker)
    if cause is Cause.MEMORY_CEILING and worker.oom == "own" and worker.ceiling is not None:
        peak = f" (peak {format_size(worker.peak)})" if worker.peak else ""
        return f" of {format_size(worker.ceiling)} reached, the kernel has killed it{peak}"
    if cause is Cause.MEMORY_CEILING and worker.memory is not None and worker.ceiling is not None:
        return f", {format_size(worker.memory)} of {format_size(worker.ceiling)} ({worker.metric})"
    if memory and cause in FOR_MEMORY:
        before = f"; it {gave(worker.gifts, worker.given)} before" if worker.gifts else ""
        return f", {memory}{grows(worker)}{before}"
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


def gift_fields(worker: Worker) -> dict[str, str | int]:
    """The fields of what it has given back; none if that is nothing."""
    return {"MEMUNIT_GIFTS": worker.gifts, "MEMUNIT_GIVEN_BYTES": worker.given} if worker.gifts else {}


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
    if worker.status:
        fields["MEMUNIT_WORKER_STATUS"] = worker.status
    if cause in _CUTS_OFF and worker.requests:
        fields["MEMUNIT_IN_WORK"] = worker.requests
        if worker.longest:
            route, age = worker.longest[0]
            fields["MEMUNIT_IN_WORK_ROUTE"] = route
            fields["MEMUNIT_IN_WORK_USEC"] = int(age * 1_000_000)
    if worker.peak:
        fields["MEMUNIT_PEAK_BYTES"] = worker.peak
    if measured is not None:
        fields["MEMUNIT_MEMORY_BYTES"] = measured
        fields["MEMUNIT_METRIC"] = worker.metric
    if worker.limit is not None:
        fields["MEMUNIT_LIMIT_BYTES"] = worker.limit
    if worker.ceiling is not None:
        fields["MEMUNIT_CEILING_BYTES"] = worker.ceiling
    return fields | gift_fields(worker)


def squeezed(bound: int) -> str:
    """The sentence of a MemoryHigh= that has been set to less than what is in use."""
    return (
        f"MemoryHigh= of the unit, or of its slice, is less than the memory in use: only {format_size(bound)} is "
        "left for the workers. The kernel slows the workers down. If they hold more than MemoryHigh= allows, the "
        "kernel slows memunit down too, until systemd's watchdog ends the service: raise MemoryHigh=, or restart the "
        "service"
    )


def begins(policy: Policy, gate: Gate, now: float) -> str:
    """The master begins, and maybe not at once."""
    bounds = f"limit {format_size(policy.limit)}, ceiling {format_size(policy.ceiling)}"
    text = f"Starting {workers(policy.count)}: {bounds}"
    if gate.retry_at >= now + _HELD:
        wait = f"{gate.retry_at - now:.0f} s"
        text += f"; the first starts in {wait}, because the last {gate.failures} tries have failed"
        text += "; a restart tries at once"
    return text


def treeless(why: str, interval: float) -> str:
    """There is no delegated cgroup tree, and memory is sampled every so many seconds."""
    return (
        f"memunit measures memory every {interval:g} s, because the kernel does not report it here: {why}. "
        "A worker that grows fast may take memory from the others until the next measurement"
    )
