"""One entry of the journal as the commands that read it want it, from fields that may be anything."""

from collections.abc import Mapping

from memunit.account.text import clean
from memunit.core.messages import Message
from memunit.core.names import is_instance
from memunit.records import dataclass, field

KINDS = {message.id: message.name for message in Message}
"""The name in messages.py of each MESSAGE_ID of memunit's."""

# systemd's own (systemd/sd-messages.h), about a unit that UNIT= names.
MANAGER_KINDS = {
    "7d4958e842da4a758f6c1cdc7b36dcc5": "UNIT_STARTING",
    "39f53479d3a045ac8e11786248231fbf": "UNIT_STARTED",
    "9d1aaa27d60140bd96365438aad20286": "UNIT_STOPPED",
    "be02cf6855d2428ba40df7e9d022f03d": "UNIT_START_FAILED",
    "98e322203f7a4ed290d09fe03c09fe15": "UNIT_PROCESS_EXIT",
    "d9b373ed55a64feb8242e02dbe79a49c": "UNIT_FAILED",
    "5eb03494b6584870a536b337290809b3": "UNIT_RESTART",
    "fe6faa94e7774663a0da52717891d8ef": "UNIT_OOM",
}
_LONGEST_NUMBER = 18
_LONGEST_CAUSE = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one entry. `at` is in seconds of CLOCK_REALTIME, `kind` a name of messages.py or UNIT_...

    The numbers of a worker are -1 where the entry has none.
    """

    at: float
    kind: str
    instance: str
    message: str
    slot: int = -1
    generation: int = -1
    pid: int = -1
    fields: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def cause(self) -> str:
        """MEMUNIT_CAUSE, of an end. Cleaned here, for it is a word in many sentences."""
        return clean(self.fields.get("MEMUNIT_CAUSE", ""), _LONGEST_CAUSE)

    @property
    def reason(self) -> str:
        """MEMUNIT_STOP_REASON."""
        return clean(self.fields.get("MEMUNIT_STOP_REASON", ""), _LONGEST_CAUSE)

    def number(self, name: str) -> int | None:
        """A field that is a number from 0 to below 10**18; None if it is missing, or something else."""
        return number(self.fields.get(name, ""))


def number(text: str) -> int | None:
    """Decimal digits, and not more of them than any size or time has."""
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    return None


def parse(fields: Mapping[str, str]) -> Entry | None:
    """The entry with these fields, "__REALTIME_TIMESTAMP" in microseconds among them; None if it is not one of ours.

    An app can write any field into the journal, but none that begins with "_": journald sets those, and drops others'.
    So an entry counts for the instance whose unit has written it, whatever instance it names. One of a unit's own
    workers can still say what is not true of its own instance.
    """
    at = number(fields.get("__REALTIME_TIMESTAMP", ""))
    identifier = fields.get("MESSAGE_ID", "")
    if at is None:
        return None
    message = fields.get("MESSAGE", "")
    if identifier in MANAGER_KINDS:
        instance = unit_instance(fields.get("UNIT", ""))
        if fields.get("_PID") != "1" or not instance:
            return None
        return Entry(at / 1e6, MANAGER_KINDS[identifier], instance, message, fields=fields)
    kind = KINDS.get(identifier)
    instance = unit_instance(fields.get("_SYSTEMD_UNIT", ""))
    if kind is None or not instance or fields.get("MEMUNIT_INSTANCE") != instance:
        return None
    names = ("MEMUNIT_SLOT", "MEMUNIT_GENERATION", "MEMUNIT_WORKER_PID")
    slot, generation, pid = (number(fields.get(name, "")) for name in names)
    return Entry(
        at / 1e6,
        kind,
        instance,
        message,
        -1 if slot is None else slot,
        -1 if generation is None else generation,
        -1 if pid is None else pid,
        fields,
    )


def unit_instance(unit: str) -> str:
    """ "shop" for "memunit@shop.service"; "" for another unit."""
    name = unit.removeprefix("memunit@").removesuffix(".service")
    return name if unit == f"memunit@{name}.service" and is_instance(name) else ""
