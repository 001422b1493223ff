"""What a master is made of, each part once and in the order in which they need each other."""

import os
import select
import time
from collections.abc import Collection

from memunit.core import backoff
from memunit.core.messages import Message
from memunit.core.model import WorkerId
from memunit.master.asking import Asking
from memunit.master.continuity import Inherited
from memunit.master.doors import Doors
from memunit.master.dumps import Dumps
from memunit.master.examinations import Examinations
from memunit.master.examiners import Examiners
from memunit.master.groups import Groups
from memunit.master.interface import Interface
from memunit.master.measuring import Measuring
from memunit.master.processes import Processes
from memunit.master.recorder import Recorder
from memunit.master.recovery import Recovery
from memunit.master.report import Reporter
from memunit.master.revisions import Revisions
from memunit.master.setting import Setting
from memunit.master.signals import Signals
from memunit.master.witnesses import Witnesses


class Parts:
    """Made of what the master has `inherited`; workers in `told` were told to stop before this master."""

    def __init__(
        self, setting: Setting, revisions: Revisions, inherited: Inherited, told: Collection[WorkerId]
    ) -> None:
        passed = inherited.passed
        self.setting = setting
        self.revisions = revisions
        self.epoll = select.epoll()
        self.groups: Groups[WorkerId] = Groups(setting.tree, self.epoll)
        self.signals = Signals(() if passed is None else passed.signals)
        unsent, level = ((), 7) if passed is None else (passed.unsent, passed.level)
        self.report = Reporter(setting.log, setting.systemd, unsent, level)
        self.doors = Doors(
            setting.notify_path,
            setting.control_path,
            setting.interface_path,
            self.epoll,
            self.report,
            None if passed is None else passed.doors,
        )
        self.measuring = Measuring(self.groups, revisions, self.report)
        self.dumps = Dumps()
        self.recorder = Recorder(setting.directory, setting.instance, self._warn_of_recorder)
        self._seed = seed_of(setting.instance)
        self.processes = Processes(setting, self.epoll, self.groups, self.report, self._zygote_delay)
        self.interface = Interface(
            setting, self.doors.interface, self.dumps, self.report, self.processes.belongings.glance
        )
        self.recovery = Recovery(setting, self.report, inherited)
        self.witnesses = Witnesses(setting.state_directory, () if passed is None else passed.witnesses)
        # Where policy begins anew, those who wait are told so (Doors.abandon).
        asked = () if passed is None or inherited.course is None else passed.examined_for
        self.examinations = Examinations(
            self.report,
            self.doors,
            setting.state_directory,
            Examiners(setting, self.processes.programs),
            self.witnesses,
            told,
            asked,
        )
        self.asking = Asking(
            setting,
            self.signals,
            self.doors,
            self.examinations,
            self.witnesses,
            revisions,
            self.report,
        )

    def close(self) -> None:
        """Close all parts: nothing of this master stays, not for a successor either."""
        self.signals.disarm(ends=self.setting.sole)
        self.recorder.close()
        self.processes.close()
        self.dumps.close()
        self.doors.close()
        self.epoll.close()
        self.recovery.remove()

    def _warn_of_recorder(self, text: str) -> None:
        self.report.warn(Message.CONFIGURATION, text)

    def _zygote_delay(self, failures: int) -> float:
        return backoff.delay(failures, seed=self._seed, slot=-2)


def seed_of(instance: str) -> int:
    """A seed for the jitter that differs between instances and between starts."""
    return int.from_bytes(os.fsencode(instance)[-4:], "big") ^ time.monotonic_ns()
