"""What is wrong with the service as a whole: it does not run, does not answer, or nothing becomes ready."""

from memunit.account.entries import Entry
from memunit.account.facts import HOUR, KEPT, Facts, Finding, check, how_signal, sentence
from memunit.account.lives import Life
from memunit.account.of_workers import more_time
from memunit.account.text import clean, plural
from memunit.account.units import Unit
from memunit.core.exitcodes import EX_SOFTWARE

# ExecMainCode=: CLD_EXITED, and CLD_KILLED and CLD_DUMPED (sigaction(2)).
_EXITED, _BY_SIGNAL = 1, (2, 3)


def not_running(facts: Facts) -> Finding | None:
    """There is no master."""
    unit, name = facts.unit, facts.name
    if not unit.known or unit.runs:
        return None
    waits = (
        "clients wait in the socket"
        if unit.listening
        else "the socket does not listen, so clients are refused"
    )
    log = f"journalctl -u memunit@{name} -n 50 shows its last lines"
    life, note = _failure(facts)
    given_up = facts.account.last_note("NOTHING_READY", since=facts.now - HOUR)
    if _comes_back(unit):
        why = clean(given_up.message, KEPT) if given_up else f"the master ended with {_exit(unit)}"
        left = _leaves_workers(unit)
        if left:
            waits = "the workers that were ready go on serving, and the next master takes them over"
        return Finding(
            "restarting",
            0,
            unit.since,
            f"{'no master runs' if left else 'nothing serves'}: the master ended with {_exit(unit)}, "
            "and systemd starts it again",
            [f"No master runs at this moment: {why}.", f"systemd starts the master again; {waits}."],
            [*_steps(facts, life, note), log],
            life,
            note.at if note else None,
        )
    if unit.active == "failed":
        return Finding(
            "failed",
            0,
            unit.since,
            f"failed: the master ended with {_exit(unit)}",
            [f"The service failed {facts.ago(unit.since)}: the master ended with {_exit(unit)}; {waits}."],
            [*_steps(facts, life, note), f"systemctl restart memunit@{name} starts it again", log],
            life,
            note.at if note else None,
        )
    if unit.active == "deactivating":
        return Finding(
            "stopping",
            3,
            unit.since,
            "is being stopped",
            [
                "The service is being stopped: its master has ended, and memunit ends the processes that are left."
            ],
            [log],
        )
    if unit.listening:
        return Finding(
            "idle",
            3,
            unit.since,
            "not started yet: its first client starts it",
            ["The socket listens, and the service starts with the first connection."],
            [f"systemctl start memunit@{name} starts it at once"],
        )
    return Finding(
        "inactive",
        3,
        unit.since,
        "not running",
        ["Neither the service nor its socket is active: clients are refused."],
        [f"systemctl enable --now memunit@{name}.socket makes the socket listen, now and after each boot"],
    )


def _comes_back(unit: Unit) -> bool:
    """A master has failed, and its successor is not there yet: systemd runs ExecStopPost= first, and then waits."""
    return "auto-restart" in unit.sub or (
        unit.active == "deactivating" and unit.result not in ("", "success")
    )


def _leaves_workers(unit: Unit) -> bool:
    """Whether the workers outlive such an end of their master: by a signal, or for a fault of memunit's own."""
    return unit.exit_code in _BY_SIGNAL or (unit.exit_code == _EXITED and unit.exit_status == EX_SOFTWARE)


def _exit(unit: Unit) -> str:
    named = {
        69: "status 69 (nothing became ready)",
        70: "status 70 (memunit is at fault)",
        71: "status 71 (the system refused)",
        78: "status 78 (the configuration can't be used)",
    }
    if unit.exit_code == _EXITED:
        return named.get(unit.exit_status, f"status {unit.exit_status}")
    return how_signal(unit.exit_status) if unit.exit_code else unit.result or "no status"


def silent(facts: Facts) -> Finding | None:
    """There is one, and it does not answer."""
    if not facts.silent or not facts.unit.runs:
        return None
    name = facts.name
    return Finding(
        "silent",
        0,
        facts.now,
        "the master does not answer",
        [
            f"The master (pid {facts.unit.pid}) {facts.silent}: it hangs, or somebody has stopped it.",
            "Its workers go on serving, but nobody replaces a worker that ends, and nobody watches memory.",
        ],
        [
            f"systemctl kill --kill-whom=main -s CONT memunit@{name} wakes the master if somebody has stopped it",
            f"otherwise systemctl restart memunit@{name}; systemd's watchdog does the same after 30 s",
        ],
    )


def master(facts: Facts) -> Finding | None:
    """It has failed or was killed, and another one has taken its workers over."""
    failed = facts.account.last_note("MASTER_FAILED", since=facts.now - HOUR)
    taken = facts.account.last_note("MASTER_SUCCEEDED", since=facts.now - HOUR)
    note = failed or taken
    if note is None or not facts.unit.runs:
        return None
    name = facts.name
    log = f"journalctl -x -u memunit@{name} shows what came before"
    steps = [f"report it to memunit with its traceback: {log}"] if failed else [log]
    return Finding(
        "master",
        3,
        note.at,
        "memunit's master has failed, and goes on"
        if failed
        else "the master was killed; its workers were taken over",
        [sentence(note.message), "No worker ended because of that."],
        steps,
        None,
        note.at,
    )


def file(facts: Facts) -> Finding | None:
    """What the file says now can't be used."""
    if not facts.problems:
        return None
    first = facts.problems[0]
    runs = facts.unit.runs
    text = [clean(str(each), KEPT) for each in facts.problems[:5]]
    # A master without a usable file tells nothing of its workers, and systemd skips a reload of an activating unit.
    waits = runs and facts.unit.active == "activating" and facts.unit.counted is None
    after = ""
    if waits:
        after = "No worker serves: the master waits until the file is mended."
    elif runs:
        after = "The master keeps the settings that it read last; a reload or a restart would fail."
    return Finding(
        "file",
        2 if runs and not waits else 0,
        facts.now,
        f"its file can't be used: {clean(first.key or first.message, 60)}",
        [*text, *([after] if after else [])],
        [
            f"mend {facts.file}, then {check(facts.name)}",
            f"then systemctl {'restart' if waits else 'reload-or-restart'} memunit@{facts.name}",
        ],
    )


def nothing_ready(facts: Facts) -> Finding | None:
    """The master runs, and no worker serves: for what the master says, or by the failures since the last that did."""
    counted = facts.unit.counted
    if not facts.unit.runs or facts.unit.active == "deactivating" or (counted is not None and counted[0] > 0):
        return None
    life, note = _failure(facts)
    at = max(note.at if note else 0.0, (life.ended or 0.0) if life else 0.0)
    served = max((each.ready or 0.0 for each in facts.account.lives), default=0.0)
    if at <= served and (counted is None or facts.unit.active == "activating"):
        return None
    trouble = clean(facts.unit.trouble, KEPT)
    told = clean(note.message if note else life.message if life else "", KEPT)
    return Finding(
        "nothing-ready",
        0,
        at or facts.now,
        f"nothing serves: {trouble or told[:1].lower() + told[1:] or 'no worker is ready'}",
        [f"{told or 'No worker serves' + (': ' + trouble if trouble else '')}.", _backoff(facts)],
        [
            *_steps(facts, life, note),
            f"systemctl restart memunit@{facts.name} tries at once",
        ],
        life,
        note.at if note else None,
    )


def _steps(facts: Facts, life: Life | None, note: Entry | None) -> list[str]:
    """What makes a worker ready: one that was not ready in time may have printed no error."""
    steps = [f"{check(facts.name)} finds the usual mistakes"]
    if life is not None and life.cause == "start-timeout":
        return [more_time(facts), *steps]
    if life is None and note is None:
        return steps
    return ["mend the error that the last worker printed; the next try then succeeds without you", *steps]


def _failure(facts: Facts) -> tuple[Life | None, Entry | None]:
    """The last worker that did not come up or crashed; or the entry of one that could not even be started, if later."""
    ended = facts.account.ended("start-failed", "start-timeout", "crash-exit", "crash-signal")[-1:]
    note = facts.account.last_note("LAUNCH_FAILED", since=facts.now - HOUR)
    if note is not None and (not ended or note.at > (ended[0].ended or 0.0)):
        return None, note
    return (ended[0] if ended else None), None


def _backoff(facts: Facts) -> str:
    waits = (
        "clients wait in the socket"
        if facts.unit.listening
        else "clients are refused, because the socket is closed"
    )
    return f"memunit tries again and again, with pauses that grow to half a minute; {waits}."


def few(facts: Facts) -> Finding | None:
    """Fewer serve than there are to be, or the master tells of a trouble; and perhaps nothing else says why."""
    counted, trouble = facts.unit.counted, clean(facts.unit.trouble, KEPT)
    if counted is None or facts.unit.active == "deactivating" or (counted[0] >= counted[1] and not trouble):
        return None
    some = f"{counted[0]} of {plural(counted[1], 'worker')}"
    starting = facts.unit.active == "activating"
    return Finding(
        "few",
        2 if trouble else 3,
        facts.now,
        trouble or f"{'starting: ' if starting else ''}{some} serve",
        [f"{some} serve{': ' + trouble if trouble else ', and the others are being started'}."],
        [f"journalctl -u memunit@{facts.name} -n 50 shows what happened last"],
    )
