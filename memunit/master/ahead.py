"""An interpreter that is started ahead: it loads what serves apps while the master still reads its settings.

It becomes the first zygote once what is to be served is known, and imports nothing of the app before. Its interpreter,
environment and folder can't be changed in a running process: where the zygote wants others, it is not used, and ends.
This module imports little, for all of the master's own imports wait for it. The other side is memunit/worker/ahead.py.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Mapping

from memunit.master import afresh

TYPE_CHECKING = False  # the module typing takes as long as all of this
if TYPE_CHECKING:
    from memunit.master.child import Launch
    from memunit.master.held import Child

CONTROL = 3
# What a zygote hears of when it is told what it serves: the rest of its environment it has from its beginning.
_TOLD_LATER = ("MEMUNIT_", "LISTEN_", "WATCHDOG_")
# A packet that fits in a socket's buffer by default, and as many descriptors as the kernel passes in one (unix(7)).
_LARGEST = 128 * 1024
_MOST = 250


class Ahead:
    """One such interpreter, used for the first launch of a zygote that it fits, or for none."""

    def __init__(
        self,
        program: list[str],
        environment: Mapping[str, str],
        directory: str | None,
        procs: str = "",
        notify_path: str | None = None,
    ) -> None:
        """Start `program`: an interpreter and memunit's folder for it first. Raises OSError where no process can be.

        `procs` is the cgroup.procs file of the zygote's group. With `notify_path`, $NOTIFY_SOCKET is that.
        """
        self._program = tuple(program[:2])
        self._directory = directory
        self._procs = procs
        self._environment = {
            name: value for name, value in environment.items() if name not in afresh.NOT_FOR_WORKERS
        }
        if notify_path is not None:
            self._environment["NOTIFY_SOCKET"] = notify_path
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._control.setblocking(False)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self._become(program, theirs.fileno())
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            os.close(reader)
            self._control.close()
            raise
        finally:
            os.close(writer)
            theirs.close()
        self._exec_fd = reader

    def _become(self, program: list[str], control: int) -> None:
        try:
            afresh.move(self._procs)
            os.setpgid(0, 0)
            afresh.reset_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            afresh.read_from_nowhere()
            if control == CONTROL:
                os.set_inheritable(control, True)
            else:
                os.dup2(control, CONTROL)
            afresh.close_all_but(range(CONTROL + 1))
            if self._directory is not None:
                os.chdir(self._directory)
            os.execvpe(program[0], program, self._environment)  # noqa: S606  no shell is the point
        finally:
            # Whatever it is, the launch without us says it.
            os._exit(1)

    def start(self, launch: "Launch") -> "Child":
        """Start what `launch` says: by telling this interpreter if it fits and is there, else as spawn.launch()."""
        from memunit.master import held, spawn  # noqa: PLC0415  all that it imports comes later than we do

        if self.pid and not self._fits(launch):
            self.drop()
        if not self.pid or not self._tell(launch):
            self.drop()
            return spawn.launch(launch)
        pid, self.pid = self.pid, 0
        self._control.close()
        return held.Child(pid=pid, pidfd=self._pidfd, exec_fd=self._exec_fd)

    def drop(self) -> None:
        """End it, if nothing has become of it."""
        if not self.pid:
            return
        # Somebody may have reaped it: one that could not begin has ended long ago.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pid = 0
        self._control.close()
        os.close(self._pidfd)
        os.close(self._exec_fd)

    def _fits(self, launch: "Launch") -> bool:
        return (
            launch.argv[:2] == self._program
            and launch.argv[2:3] == ("--zygote",)
            and launch.directory == self._directory
            and launch.cgroup == self._procs
            and launch.stop_signal == signal.SIGTERM
            and not launch.notify_descriptor
            and not self._ended()
        )

    def _ended(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _tell(self, launch: "Launch") -> bool:
        import json  # noqa: PLC0415  none of it is needed at our import

        from memunit.master.child import environment_of  # noqa: PLC0415

        wanted = environment_of(launch, self.pid)
        said = {name: value for name, value in wanted.items() if self._environment.get(name) != value}
        missing = self._environment.keys() - wanted.keys()
        later = {name for name in said if name.startswith(_TOLD_LATER)}
        if "NOTIFY_SOCKET" not in self._environment:
            later.add("NOTIFY_SOCKET")
        if missing or said.keys() - later:
            return False
        descriptors = [*(descriptor for _, descriptor in launch.sockets), *launch.pages.values()]
        message = {
            "arguments": launch.argv[2:],
            "environment": said,
            "parent": os.getpid(),
            "parent_death_signal": int(launch.parent_death_signal),
        }
        packet = json.dumps(message).encode()
        if len(packet) > _LARGEST or len(descriptors) > _MOST:
            return False
        try:
            socket.send_fds(self._control, [packet], descriptors, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True
