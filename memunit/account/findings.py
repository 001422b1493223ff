"""What is wrong with an instance: in words, with the cause, and with what a person can do."""

from collections.abc import Callable

from memunit.account import of_memory, of_service, of_workers
from memunit.account.facts import DAY, Facts, Finding
from memunit.account.text import plural

_NOW = ("restarting", "failed", "stopping", "idle", "inactive", "file")


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that is wrong, the most pressing first; one of rank 4 if nothing is."""
    looks: list[Callable[[Facts], Finding | None]] = [
        of_service.not_running,
        of_service.silent,
        of_service.file,
        of_service.nothing_ready,
        of_workers.crashes,
        of_workers.ceiling,
        of_workers.watchdog,
        of_workers.grace,
        of_workers.never_ready,
        of_workers.launches,
        of_workers.reload,
        of_memory.baseline,
        of_memory.leak,
        of_memory.unmeasured,
        of_service.master,
        of_service.few,
    ]
    found = [finding for look in looks if (finding := look(facts)) is not None]
    if facts.unit.known and not facts.unit.runs:
        # The unit has ended: a trouble of its workers is past.
        for finding in found:
            if finding.kind not in _NOW:
                finding.rank = max(finding.rank, 3)
    if len(found) > 1:
        # The others say why there are few.
        found = [finding for finding in found if finding.kind != "few"]
    found.sort(key=lambda finding: (finding.rank, finding.kind not in _NOW, -finding.at))
    return found or [_well(facts)]


def _well(facts: Facts) -> Finding:
    counted = facts.unit.counted
    serve = f"{counted[0]} of {plural(counted[1], 'worker')} serve" if counted else "The master runs"
    if not facts.unit.known:
        serve = "systemd could not be asked"
    past = facts.account.counts(since=facts.now - DAY)
    told = ", ".join(f"{count} {cause}" for cause, count in past.items())
    return Finding(
        "well",
        4,
        facts.now,
        "",
        [
            f"Nothing is wrong with {facts.name}: {serve}.",
            f"Workers that ended in the last day: {told}."
            if told
            else "No worker has ended in the last day.",
        ],
        [f"memunit history {facts.name} shows what was before"],
    )
