"""What a new process begins with, whoever it is: signals, standard input, descriptors, and what is not said to it.

Light, for the first process of a master is started before the rest of the master is imported (ahead.py).
"""

import contextlib
import os
import signal
from collections.abc import Collection

# What systemd says to the process that it has started itself, with the reason why a worker does not get it
# (systemd.exec(5), "Environment variables set or propagated by the service manager").
NOT_FOR_WORKERS = frozenset(
    {
        # A worker gets its own.
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        # These name the master, by pid or by its pidfd's inode: a library that compares takes itself for the service.
        "LISTEN_PIDFDID",
        "MAINPID",
        "MAINPIDFDID",
        "SYSTEMD_EXEC_PID",
        # The service manager, whom the master alone answers to.
        "MANAGERPID",
        "MANAGERPIDFDID",
        # Descriptors that only the main process may store, and the file in which a daemon would leave its pid.
        "FDSTORE",
        "PIDFILE",
        # The pressure of the whole unit, the master's and each sibling's: a program that follows the protocol would
        # give memory back for somebody else. A worker gets a MEMORY_PRESSURE_WATCH of its own (pressure.py).
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "CPU_PRESSURE_WATCH",
        "CPU_PRESSURE_WRITE",
        "IO_PRESSURE_WATCH",
        "IO_PRESSURE_WRITE",
        # Why systemd has started the master, of which another worker that starts an hour later knows nothing.
        "MONITOR_EXIT_CODE",
        "MONITOR_EXIT_STATUS",
        "MONITOR_INVOCATION_ID",
        "MONITOR_SERVICE_RESULT",
        "MONITOR_UNIT",
        "TRIGGER_PATH",
        "TRIGGER_TIMER_MONOTONIC_USEC",
        "TRIGGER_TIMER_REALTIME_USEC",
        "TRIGGER_UNIT",
    }
)
# Kept, for it is as true of a worker: INVOCATION_ID and LOG_NAMESPACE (the unit's), JOURNAL_STREAM (a worker has the
# master's stderr), CREDENTIALS_DIRECTORY and RUNTIME_, STATE_, CACHE_, LOGS_ and CONFIGURATION_DIRECTORY (meant for the
# app), DEBUG_INVOCATION (it asks for more log), USER, LOGNAME, HOME, SHELL, PATH, LANG. systemd says REMOTE_ADDR,
# REMOTE_PORT, EXIT_CODE, EXIT_STATUS and SERVICE_RESULT to no process that a master may be (Accept=yes, ExecStop=).

# These ask the master for something. `systemctl kill` sends a signal to every process of the unit unless it is told
# --kill-whom=main, and the default of these is to end or to stop a process. A program that has a meaning for one of
# them sets its own handler, as nginx and php-fpm do; a shell can't trap what was ignored when it began
# (docs/commands.md).
FOR_THE_MASTER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


def reset_signals(stop_signal: int = signal.SIGTERM) -> None:
    """Every signal as it is by default, but ignored if it asks the master for something and is not `stop_signal`."""
    signal.set_wakeup_fd(-1)
    ignored = {*FOR_THE_MASTER} - {stop_signal}
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def read_from_nowhere() -> None:
    """Have /dev/null for standard input."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if null == 0:
        os.set_inheritable(0, True)
    else:
        os.dup2(null, 0)
        os.close(null)


def move(procs: str) -> None:
    """Into the group of a cgroup.procs file, if it is given. What was touched by then stays charged to the master."""
    if procs:
        descriptor = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, b"0")
        os.close(descriptor)


def close_all_but(kept: Collection[int]) -> None:
    """Close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
