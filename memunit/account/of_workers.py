"""What is wrong with workers: they crash, hang, do not stop, or do not become ready."""

import math
import signal
from collections.abc import Sequence

from memunit.account.facts import DAY, HOUR, Facts, Finding, check, how_signal, sentence, size_of
from memunit.account.lives import Life, middle
from memunit.account.text import clean, duration
from memunit.core.quantity import format_size, format_time
from memunit.core.wording import OOM_KILLER

# Signals that a process gets because another one has sent them.
_SENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# What policy says of a worker that was not ready in time.
_LATE = "was not ready in time"


def _recent(facts: Facts, *causes: str) -> list[Life]:
    return facts.account.ended(*causes, since=facts.now - HOUR) or facts.account.ended(*causes)[-1:]


def _times(facts: Facts, lives: Sequence[Life]) -> str:
    """ "7 in the last hour, the last 12 s ago"; "one, 3 h ago"."""
    last = facts.ago(lives[-1].ended or facts.now)
    recent = [life for life in lives if (life.ended or 0) >= facts.now - HOUR]
    return f"{len(recent)} in the last hour, the last {last}" if len(recent) > 1 else f"one, {last}"


def crashes(facts: Facts) -> Finding | None:
    """They end unasked."""
    lives = _recent(facts, "crash-exit", "crash-signal")
    if not lives:
        return None
    last = lives[-1]
    how = _how(last)
    early = middle([life.uptime for life in lives if life.uptime is not None])
    loop = len(lives) >= 3 and early < 60
    name, pid = facts.name, last.pid
    steps = [
        *_signalled(facts, last),
        f"journalctl -u memunit@{name} _PID={pid} shows all that the worker printed",
        f"mend the app, then systemctl reload memunit@{name}: if the new code fails, the old code goes on serving",
    ]
    return Finding(
        "crash-loop" if loop else "crash",
        1 if loop or facts.now - (last.ended or 0) < HOUR else 3,
        last.ended or facts.now,
        f"{'crash loop' if loop else 'crashed'}: {how} after {duration(early)}; {_times(facts, lives)}",
        [
            sentence(last.message),
            f"Workers crashed: {_times(facts, lives)}. They lived {duration(early)} (median).",
            "Their requests in work are lost. Each worker is replaced, after a pause that grows while the crashes "
            "go on.",
        ],
        steps,
        last,
    )


def _signalled(facts: Facts, life: Life) -> list[str]:
    """Where to look for the reason of an end by a signal."""
    if life.exit_code == "dumped":
        return [f"coredumpctl info {life.pid} shows where the worker crashed"]
    if life.exit_code != "killed":
        return []
    if life.exit_status == signal.SIGKILL:
        bounds = f"memory.ceiling in {facts.file} bounds one worker, MemoryMax= bounds all workers together"
        if _starved(life):
            return [f"{bounds}: both have to leave room for what the workers need until they are replaced"]
        return [f'if nobody sent signal 9, the OOM killer did: journalctl -k -g "out of memory"; {bounds}']
    if life.exit_status in _SENT:
        sent = how_signal(life.exit_status)
        return [f"memunit did not send {sent}: find who did (a person, a script, or the worker itself)"]
    return []


def _starved(life: Life) -> bool:
    return life.exit_status == signal.SIGKILL and OOM_KILLER in life.message


def _how(life: Life) -> str:
    if _starved(life):
        return f"killed {OOM_KILLER}"
    if life.exit_code == "exited":
        return f"exits with status {life.exit_status}"
    if life.exit_code == "unknown":
        return "ends in an unknown way"
    return f"killed by {how_signal(life.exit_status or 0)}" if life.exit_code else "ends"


def ceiling(facts: Facts) -> Finding | None:
    """They were killed at their ceiling."""
    lives = _recent(facts, "memory-ceiling")
    if not lives:
        return None
    last = lives[-1]
    ceiling = last.ceiling or (facts.settings.memory.ceiling if facts.settings else None)
    size = f" of {format_size(ceiling)}" if ceiling else ""
    steps = [
        "find the request that needs so much at once: a large upload, a query without a bound, a big answer that is "
        "built in memory; bound it in the app",
    ]
    if ceiling:
        steps.append(
            f'or set ceiling = "{size_of(ceiling * 3 // 2)}" in [memory] of {facts.file}; {check(facts.name)} checks '
            f"whether memory has room, and systemctl reload memunit@{facts.name} applies the change"
        )
    steps.append(f"journalctl -u memunit@{facts.name} _PID={last.pid} shows its last lines")
    lived = f"It lived {duration(last.uptime)}. " if last.uptime is not None else ""
    return Finding(
        "ceiling",
        1 if facts.now - (last.ended or 0) < DAY else 3,
        last.ended or facts.now,
        f"killed at its ceiling{size}: {_times(facts, lives)}",
        [
            sentence(last.message),
            f"Workers were killed at the ceiling{size}: {_times(facts, lives)}.",
            f"{lived}It grew too fast to be replaced at its limit. Its requests in work are lost; other workers lost "
            "none.",
        ],
        steps,
        last,
    )


def watchdog(facts: Facts) -> Finding | None:
    """They were silent for too long."""
    lives = _recent(facts, "watchdog")
    if not lives:
        return None
    last = lives[-1]
    after = facts.settings.workers.watchdog if facts.settings else math.inf
    bound = f" for {format_time(after)}" if math.isfinite(after) else ""
    return Finding(
        "hang",
        1 if facts.now - (last.ended or 0) < DAY else 3,
        last.ended or facts.now,
        f"hangs: silent{bound}, then aborted; {_times(facts, lives)}",
        [
            sentence(last.message),
            f"Workers sent no watchdog ping{bound}, and were ended: {_times(facts, lives)}. Their requests in work "
            "are lost.",
        ],
        [
            "the stacks in the journal show where the worker hung: often in a call that blocks the event loop. "
            "Await that "
            "call, give it a time limit, or run it in a thread",
            f"if the app needs more time, raise watchdog in [workers] of {facts.file}, then systemctl reload "
            f"memunit@{facts.name}",
            f"journalctl -u memunit@{facts.name} _PID={last.pid} shows the whole stacks",
        ],
        last,
    )


def grace(facts: Facts) -> Finding | None:
    """They used up their grace: killed at its end, or gone by themselves a moment before, without what still ran.

    A Python worker does the latter (docs/stop.md): the cause of its end is then that of its stop.
    """
    bound = facts.settings.stop.grace if facts.settings else math.inf
    slow = [life for life in facts.account.ended() if _used_up(life, bound)]
    lives = [life for life in slow if (life.ended or 0) >= facts.now - HOUR] or slow[-1:]
    if not lives:
        return None
    last = lives[-1]
    killed = sum(life.cause == "grace-expired" for life in lives)
    size = f" of {format_time(bound)}" if math.isfinite(bound) else ""
    why = last.stop_reason or last.cause
    said = f'Its last status: "{clean(last.said, 200)}".' if last.said else ""
    how = "were killed" if killed else "ended with work unfinished"
    return Finding(
        "slow-drain",
        1 if facts.now - (last.ended or 0) < DAY else 3,
        last.ended or facts.now,
        f"slow to stop: {'killed after' if killed else 'used up'} its grace{size}; {_times(facts, lives)}",
        [
            sentence(last.message),
            f"Workers had not finished within their grace{size}, and {how}: {_times(facts, lives)}; the last was being "
            f"stopped for {clean(why, 30)}. Their requests in work were cut off.",
            *([said] if said else []),
        ],
        [
            "find what the worker waited for: a long request, a stream or WebSocket that does not end, a thread that "
            "never ends; bound it in the app",
            f"if such requests are right, raise grace in [stop] of {facts.file} (over 5 min TimeoutStopSec= too), then "
            f"systemctl reload memunit@{facts.name}",
            f"memunit history {facts.name} shows how long workers take to stop",
        ],
        last,
    )


def _used_up(life: Life, bound: float) -> bool:
    if life.cause == "grace-expired":
        return True
    # The last fifth, and five seconds at most, are for cutting off.
    return life.drain is not None and math.isfinite(bound) and life.drain >= bound - min(5.0, bound / 5) > 0


def never_ready(facts: Facts) -> Finding | None:
    """They did not become ready, while others serve."""
    lives = _recent(facts, "start-failed", "start-timeout")
    counted = facts.unit.counted
    if not lives or (counted is not None and counted[0] == 0):
        return None
    last = lives[-1]
    healed = any(life.ready is not None and life.ready > (last.ended or 0) for life in facts.account.lives)
    timeout = last.cause == "start-timeout"
    said = [more_time(facts)] if timeout else _signalled(facts, last)
    steps = [
        *(said or ["the output of the worker says why it failed"]),
        f"{check(facts.name)} finds the usual mistakes",
    ]
    return Finding(
        "start-timeout" if timeout else "start-failed",
        3 if healed else 1,
        last.ended or facts.now,
        f"{'is not ready in time' if timeout else 'fails to start'}: {_times(facts, lives)}",
        [
            sentence(last.message),
            f"Workers that did not become ready: {_times(facts, lives)}. Workers that serve go on serving.",
        ],
        steps,
        last,
    )


def launches(facts: Facts) -> Finding | None:
    """No process could be made for them, while others serve: these may be the ones that are to be replaced."""
    notes = [
        note for note in facts.account.notes if note.kind == "LAUNCH_FAILED" and facts.now - note.at < HOUR
    ]
    counted = facts.unit.counted
    if not notes or counted is None or counted[0] == 0:
        return None
    last = notes[-1]
    healed = any(life.ready is not None and life.ready > last.at for life in facts.account.lives)
    verb = "could not" if healed else "can't"
    often = "one," if len(notes) == 1 else f"{len(notes)} in the last hour, the last"
    return Finding(
        "launch-failed",
        3 if healed else 1 if counted[0] < counted[1] else 2,
        last.at,
        f"{verb} be started: {often} {facts.ago(last.at)}",
        [
            sentence(last.message),
            "Workers that serve go on serving, but a worker that is to be replaced is replaced only after a new worker "
            "is ready.",
        ],
        [
            f"{check(facts.name)} finds the usual mistakes",
            f"journalctl -u memunit@{facts.name} -n 50 shows what happened last",
        ],
        None,
        last.at,
    )


def more_time(facts: Facts) -> str:
    """What may help a worker that was not ready in time."""
    return (
        f"if the app only needs more time, raise start_timeout in [workers] of {facts.file}; a command that never says "
        'READY=1 needs ready = "exec" in [app]'
    )


def reload(facts: Facts) -> Finding | None:
    """The last reload failed."""
    failed = facts.account.last_note("RELOAD_FAILED")
    done = facts.account.last_note("RELOAD_DONE")
    started = max(
        (entry.at for entry in facts.account.manager if entry.kind == "MASTER_STARTED"), default=0.0
    )
    # That the old code serves is told of a master that serves.
    serves = facts.unit.runs and facts.unit.active != "activating"
    if failed is None or not serves or failed.at < max(started, done.at if done else 0.0):
        return None
    return Finding(
        "reload-failed",
        2,
        failed.at,
        f"the last reload failed, {facts.ago(failed.at)}: the old code serves",
        [
            sentence(failed.message),
            f"The reload was {facts.ago(failed.at)}. No request was lost, but the workers still run the old code.",
        ],
        [
            more_time(facts)
            if _LATE in failed.message
            else f"mend what the message names, then {check(facts.name)}",
            f"systemctl reload memunit@{facts.name}",
        ],
    )
