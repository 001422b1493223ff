"""The variables of a worker's environment that no file may set."""

# What memunit itself says to each worker, or keeps from it: systemd means it for the service's first process alone.
RESERVED_VARIABLES = frozenset(
    {
        *(f"{kind}_PRESSURE_{word}" for kind in ("CPU", "IO", "MEMORY") for word in ("WATCH", "WRITE")),
        "FDSTORE",
        *(f"LISTEN_{word}" for word in ("FDNAMES", "FDS", "PID", "PIDFDID")),
        "MAINPID",
        "MAINPIDFDID",
        "MANAGERPID",
        "MANAGERPIDFDID",
        *(
            f"MEMUNIT_{word}"
            for word in (
                "ACCESS_LOG",
                "ALLOCATOR",
                "GENERATION",
                "GRACE_USEC",
                "INSTANCE",
                "LISTEN",
                "NOTIFY_FD",
            )
        ),
        *(f"MEMUNIT_{word}" for word in ("SLOT", "STOPPING", "THREADS", "WITNESS")),
        *(f"MEMUNIT_HTTP_{word}" for word in ("BODY_SIZE", "BODY_TIMEOUT", "HEAD_SIZE", "HEAD_TIMEOUT")),
        *(
            f"MONITOR_{word}"
            for word in ("EXIT_CODE", "EXIT_STATUS", "INVOCATION_ID", "SERVICE_RESULT", "UNIT")
        ),
        "NOTIFY_SOCKET",
        "PIDFILE",
        "SYSTEMD_EXEC_PID",
        *(f"TRIGGER_{word}" for word in ("PATH", "TIMER_MONOTONIC_USEC", "TIMER_REALTIME_USEC", "UNIT")),
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
