"""The kinds of journal entries: each with its MESSAGE_ID, which the catalog explains (`journalctl -x`), and priority.

An ID is part of the interface: scripts match on it. It never changes, and is never used for another kind.
"""

import enum

from memunit.core.model import Cause

# syslog(3).
ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7


class Message(enum.Enum):
    """One kind of entry. Its value is the MESSAGE_ID; `priority` is what most entries of the kind have."""

    priority: int

    def __new__(cls, message_id: str, priority: int) -> "Message":
        """A member's value is the MESSAGE_ID alone."""
        member = object.__new__(cls)
        member._value_ = message_id
        member.priority = priority
        return member

    # The master and its configuration.
    MASTER_STARTED = "566b268204814027bb9b334c13350348", INFO
    MASTER_STOPPING = "a3ab5a2adfec40e281a71811ba12b949", INFO
    MASTER_FAILED = "bc07f09996574eec88a95c413580dfd9", ERROR
    MASTER_REEXECUTED = "b935cc0ad9ec4cbfb18ae9581163e394", NOTICE
    MASTER_SUCCEEDED = "047f663817764157bfb5364fb70f3e39", WARNING
    STATE_UNUSABLE = "84715327233b428a809a6515597a9305", WARNING
    LEFT_ENDED = "3c1888a03ceb462d936492fc34bd5b88", WARNING
    NOTHING_READY = "880dbc35df904ee2ba18ce580aa829b7", ERROR
    CONFIGURATION = "ce2fdc60a0f04f3b878962938f802ef9", WARNING
    STATE_DUMP = "6cfbfb1323f54d269ffc05d5f7cce361", NOTICE
    SCALE = "06e757c4bd8f4b8e8ad481b0d90d2168", NOTICE
    SETTINGS = "ab4b1457c9f94f93ad268fa6780afa2a", NOTICE
    ASKED = "a2057a831f0249a2be342912a560b5f4", NOTICE
    SURGE_REVERSED = "c8367ccf9e224495a09a00831ffdffa5", WARNING
    SOCKET_LOST = "00cad45782af47208287425eebaf98c9", WARNING
    SENSOR = "86089bef844d4e79ba048b2b36508587", NOTICE
    RECYCLE_DID_NOT_HELP = "d5053fb57c52491bbaa5f194c540234b", WARNING
    GAVE_BACK = "f29c2e2436474017a7d51cb4e98996a1", NOTICE
    UNMEASURED = "10bb8eda7bf5492391fb207c4676a191", ERROR
    BASELINE_OVER_LIMIT = "68988f68eeb4451ebb78fc275934f3e3", ERROR
    RELOAD_DONE = "ca2539fe5e9d40a38e3fb5acd4db02fe", NOTICE
    RELOAD_FAILED = "6fa51b60b5624d1bacdcbecf8a3bb0de", ERROR

    # A worker changes its phase.
    WORKER_STARTING = "ed8f192a4fd142f5b51411c22ef2c0df", DEBUG
    WORKER_READY = "ca8b3da9ac17403e9bd661d4cde31e5f", INFO
    WORKER_STOPPING = "833bcc6ff6784bc993ee0b41a805303d", INFO
    LAUNCH_FAILED = "b14906bce5b14c01b330f70b07b0dc68", ERROR

    # The zygote, from which workers are forked where the app is preloaded.
    ZYGOTE_LOST = "8ba39b9303f4864c3516a8e34bee1ad4", WARNING
    PRELOAD_DECLINED = "b6a5a0ac9bd94de48ed39fcf5a3a0c8e", NOTICE
    PRELOAD_UNSAFE = "3a367239b79fadba021f3bf4befa8fa5", WARNING

    # What grew in a worker that was replaced for its memory.
    EXAMINED = "ae46f5ed82b74b43a92163a4ca2d7a6a", NOTICE

    # A worker ended: one entry an end, with MEMUNIT_CAUSE.
    ENDED_MEMORY_LIMIT = "4e38929d335f4d5e93a7ff0e77206ba7", NOTICE
    ENDED_MEMORY_CEILING = "c6d4525a00d04935a6793282897b89f6", WARNING
    ENDED_CRASH = "a5118a6146204b5ca2ebbce2db9ed609", WARNING
    ENDED_WATCHDOG = "c197b89e913a4b478176fc4327890194", WARNING
    ENDED_START = "ab6d0cbf5cc94f6c84792c93e5a9833e", WARNING
    ENDED_GRACE_EXPIRED = "819060d8b5584f5da8c916ada5fbd644", WARNING
    ENDED_PLANNED = "181b52b002854f4f99828083e3180c5c", NOTICE

    @property
    def id(self) -> str:
        """The MESSAGE_ID: 32 hexadecimal digits."""
        return str(self.value)


END_BY_CAUSE = {
    Cause.MEMORY_LIMIT: Message.ENDED_MEMORY_LIMIT,
    Cause.MEMORY_CEILING: Message.ENDED_MEMORY_CEILING,
    Cause.CRASH_EXIT: Message.ENDED_CRASH,
    Cause.CRASH_SIGNAL: Message.ENDED_CRASH,
    Cause.WATCHDOG: Message.ENDED_WATCHDOG,
    Cause.START_TIMEOUT: Message.ENDED_START,
    Cause.START_FAILED: Message.ENDED_START,
    Cause.GRACE_EXPIRED: Message.ENDED_GRACE_EXPIRED,
    Cause.MAX_AGE: Message.ENDED_PLANNED,
    Cause.PRESSURE: Message.ENDED_PLANNED,
    Cause.ADOPTED: Message.ENDED_PLANNED,
    Cause.RELOAD: Message.ENDED_PLANNED,
    Cause.SCALE_DOWN: Message.ENDED_PLANNED,
    Cause.REQUESTED: Message.ENDED_PLANNED,
    Cause.STOP: Message.ENDED_PLANNED,
}
"""The kind of an end entry, by its cause."""
ENDS = frozenset(END_BY_CAUSE.values())
