"""The MESSAGE_ID of each kind of journal entry, explained by the catalog (`journalctl -x`).

An ID is part of the interface: scripts match on it. It never changes, and is never used for another kind.
"""

# The master and its configuration.
MASTER_STARTED = "566b268204814027bb9b334c13350348"
MASTER_STOPPING = "a3ab5a2adfec40e281a71811ba12b949"
NOTHING_READY = "880dbc35df904ee2ba18ce580aa829b7"
CONFIGURATION = "ce2fdc60a0f04f3b878962938f802ef9"
STATE_DUMP = "6cfbfb1323f54d269ffc05d5f7cce361"
SCALE = "06e757c4bd8f4b8e8ad481b0d90d2168"
SURGE_REVERSED = "c8367ccf9e224495a09a00831ffdffa5"
SENSOR = "86089bef844d4e79ba048b2b36508587"
RECYCLE_DID_NOT_HELP = "d5053fb57c52491bbaa5f194c540234b"
UNMEASURED = "10bb8eda7bf5492391fb207c4676a191"
BASELINE_OVER_LIMIT = "68988f68eeb4451ebb78fc275934f3e3"
RELOAD_DONE = "ca2539fe5e9d40a38e3fb5acd4db02fe"
RELOAD_FAILED = "6fa51b60b5624d1bacdcbecf8a3bb0de"

# A worker changes its phase.
WORKER_STARTING = "ed8f192a4fd142f5b51411c22ef2c0df"
WORKER_READY = "ca8b3da9ac17403e9bd661d4cde31e5f"
WORKER_STOPPING = "833bcc6ff6784bc993ee0b41a805303d"
LAUNCH_FAILED = "b14906bce5b14c01b330f70b07b0dc68"

# The zygote, from which workers are forked where the app is preloaded.
ZYGOTE_LOST = "8ba39b9303f4864c3516a8e34bee1ad4"
PRELOAD_UNSAFE = "3a367239b79fadba021f3bf4befa8fa5"

# A worker ended: one entry an end, with MEMUNIT_CAUSE.
ENDED_MEMORY_LIMIT = "4e38929d335f4d5e93a7ff0e77206ba7"
ENDED_MEMORY_CEILING = "c6d4525a00d04935a6793282897b89f6"
ENDED_CRASH = "a5118a6146204b5ca2ebbce2db9ed609"
ENDED_WATCHDOG = "c197b89e913a4b478176fc4327890194"
ENDED_START = "ab6d0cbf5cc94f6c84792c93e5a9833e"
ENDED_GRACE_EXPIRED = "819060d8b5584f5da8c916ada5fbd644"
ENDED_PLANNED = "181b52b002854f4f99828083e3180c5c"

# The ID of an end entry by its MEMUNIT_CAUSE.
END_BY_CAUSE = {
    "memory-limit": ENDED_MEMORY_LIMIT,
    "memory-ceiling": ENDED_MEMORY_CEILING,
    "crash-exit": ENDED_CRASH,
    "crash-signal": ENDED_CRASH,
    "watchdog": ENDED_WATCHDOG,
    "start-timeout": ENDED_START,
    "start-failed": ENDED_START,
    "grace-expired": ENDED_GRACE_EXPIRED,
    "max-age": ENDED_PLANNED,
    "pressure": ENDED_PLANNED,
    "reload": ENDED_PLANNED,
    "scale-down": ENDED_PLANNED,
    "requested": ENDED_PLANNED,
    "stop": ENDED_PLANNED,
}
