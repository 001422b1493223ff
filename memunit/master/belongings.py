"""What each worker gets beside its process: its page, its line of the scoreboard, and a file that it watches."""

import time
from collections.abc import Callable, Mapping

from memunit.core import board, scoreboard
from memunit.core import facts as f
from memunit.core.board import Glance
from memunit.core.messages import Message
from memunit.core.model import WorkerId
from memunit.master.board import Boards
from memunit.master.kept import KeptProcesses
from memunit.master.pressure import Watches
from memunit.master.report import Reporter
from memunit.master.scoreboard import Scoreboard
from memunit.master.spawn import describe
from memunit.records import replace

_MOST_REQUESTS = 3


class Belongings:
    """If one of these can't be made, the worker goes on without it."""

    def __init__(self, directory: str, report: Reporter) -> None:
        """The files to watch are in the runtime `directory`."""
        self._report = report
        self._scoreboard: Scoreboard[WorkerId] = Scoreboard(
            scoreboard.header, line_size=scoreboard.LINE_SIZE, lines=scoreboard.LINES
        )
        self._boards: Boards[WorkerId] = Boards(board.header(), board.SIZE)
        # What stood on the pages of those that have ended, until their ends are told.
        self._said: dict[WorkerId, board.Board] = {}
        self._watches: Watches[WorkerId] = Watches(directory)
        self._unwatchable = False

    # -- the line --------------------------------------------------------------------------------------------

    @property
    def scoreboard(self) -> int:
        """The descriptor of the scoreboard, on which all have their lines; -1 while there is none."""
        return self._scoreboard.fileno()

    def assign(self, who: WorkerId) -> int | None:
        """A line for a worker, if one is free."""
        return self._scoreboard.assign(who)

    def line(self, who: WorkerId) -> int | None:
        """The line of a worker, if it has one."""
        return self._scoreboard.line(who)

    def release(self, who: WorkerId) -> None:
        """It serves no more: its line may be another's."""
        self._scoreboard.release(who)

    # -- the file that it watches ----------------------------------------------------------------------------

    def watch(self, who: WorkerId, label: str) -> str:
        """Make the file that a worker is to watch: its path, "" if none can be made (told once)."""
        try:
            return self._watches.make(who, label)
        except OSError as error:
            if not self._unwatchable:
                self._unwatchable = True
                text = (
                    f"Workers can't be asked to give memory back, and are recycled at once: {describe(error)}"
                )
                self._report.warn(Message.CONFIGURATION, text)
            return ""

    def find_watch(self, who: WorkerId, label: str) -> None:
        """Find the file that a predecessor made for this worker."""
        self._watches.find(who, label)

    def ask_back(self, who: WorkerId) -> list[f.Fact]:
        """Ask a worker to give memory back."""
        return [] if self._watches.ask(who) else [f.Unwatched(who)]

    def sweep(self) -> None:
        """Remove the files that no worker watches."""
        self._watches.sweep()

    # -- the page --------------------------------------------------------------------------------------------

    def page(self, who: WorkerId) -> int:
        """The descriptor of a page for a worker, -1 if there can be none."""
        return self._boards.make(who)

    def tell(self, who: WorkerId, reason: board.Reason, seconds: float = 0.0, memory: int = 0) -> None:
        """Write on a worker's page why it is told to stop, before it is told, and what its examination may take."""
        self._boards.write(who, board.order(reason, seconds, memory), board.ORDER)

    def last_board(self, who: WorkerId) -> board.Board | None:
        """What stood on the page of a worker that has ended; once, when its end is told."""
        return self._said.pop(who, None)

    def board(self, who: WorkerId) -> board.Board | None:
        """What stands on a worker's page, until its end is told; None if there is nothing that can be used."""
        return board.parse(self._boards.read(who))

    def glance(self, who: WorkerId) -> Glance | None:
        """What a worker does now, by its page; of one that has ended, until that is told, what it did."""
        said = self._said.get(who)
        if said is not None:
            return Glance(said.served, 0, None)
        return board.glance(self._boards.read(who, board.REPORT))

    # -- all of it -------------------------------------------------------------------------------------------

    def let_go(self, who: WorkerId) -> None:
        """The worker has not come to be."""
        self._scoreboard.release(who)
        self._boards.release(who)
        self._watches.drop(who)

    def ended(self, who: WorkerId, *, began: bool) -> tuple[list[f.Fact], int]:
        """A worker has ended: the requests that it had in work, and how many it has served.

        What stood on its page is kept until that is told, if it has begun to be its program.
        """
        self._watches.drop(who)
        said = self.board(who)
        at_work = [] if said is None else _in_work(who, said)
        self._boards.release(who)
        if said is not None and began:
            self._said[who] = said
        return at_work, 0 if said is None else said.served

    def resume(
        self, kept: KeptProcesses, lines: Mapping[WorkerId, int], there: Callable[[WorkerId], bool]
    ) -> None:
        """Go on with those of a predecessor in this process, for the workers that are `there` or still to come."""
        self._watches.resume(kept.watches, lambda label: WorkerId(*map(int, label.split("."))))
        for who in [each for each in self._watches if not there(each)]:
            self._watches.drop(who)
        if kept.scoreboard >= 0:
            self._scoreboard.resume(kept.scoreboard, kept.scoreboard_used, lines)
        pages = {WorkerId(slot, generation): page for slot, generation, page in kept.boards}
        self._boards.resume(pages, set(filter(there, pages)))

    def kept(self, others: KeptProcesses) -> KeptProcesses:
        """What a successor in this process has to know, with that of `others`."""
        return replace(
            others,
            watches=self._watches.kept(),
            scoreboard=self._scoreboard.fileno(),
            scoreboard_used=self._scoreboard.used,
            boards=tuple((*who, page) for who, page in self._boards.kept().items()),
        )

    def close(self) -> None:
        """All workers have ended."""
        self._watches.close()
        self._scoreboard.close()
        self._boards.close()


def _in_work(who: WorkerId, said: board.Board) -> list[f.Fact]:
    if not (said.in_work or said.unlisted):
        return []
    now = time.monotonic()
    longest = [(each.route, max(0.0, now - each.begun)) for each in said.in_work[:_MOST_REQUESTS]]
    return [f.InWork(who, len(said.in_work) + said.unlisted, tuple(longest))]
