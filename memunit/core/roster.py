"""The workers by slot and by phase: an index, made of the workers, that a change of phase keeps up to date."""

from collections.abc import Iterable, Sequence

from memunit.core.model import Phase, Worker, WorkerId


class Roster:
    """Finds workers without walking through all of them."""

    def __init__(self, workers: Iterable[Worker]) -> None:
        self.in_phase: dict[Phase, dict[WorkerId, Worker]] = {phase: {} for phase in Phase}
        self.wanting: dict[WorkerId, Worker] = {}
        """Those that serve and are to be replaced."""
        self._slots: dict[int, list[Worker]] = {}
        self._filled: dict[int, int] = {}
        # How many of the slots below `places` are filled: `vacant` is asked in each pass.
        self._places = self._filled_below = 0
        for worker in workers:
            self.add(worker)

    @property
    def starting(self) -> Iterable[Worker]:
        """Who has not said READY=1 yet."""
        return self.in_phase[Phase.STARTING].values()

    @property
    def running(self) -> Iterable[Worker]:
        """Who serves."""
        return self.in_phase[Phase.RUNNING].values()

    @property
    def draining(self) -> Iterable[Worker]:
        """Who was told to stop, or has said that it stops, and has not gone yet."""
        yield from self.in_phase[Phase.STOP_SIGTERM].values()
        yield from self.in_phase[Phase.STOP_SIGKILL].values()

    @property
    def serving(self) -> int:
        """How many serve."""
        return len(self.in_phase[Phase.RUNNING])

    def vacant(self, places: int) -> list[int]:
        """The slots below `places` in which none serves or starts, in order.

        A reload to fewer workers, or a scale down, leaves filled ones above them for a while.
        """
        self._count(places)
        if self._filled_below >= places:
            return []
        return [index for index in range(places) if index not in self._filled]

    def beyond(self, places: int) -> list[Worker]:
        """Who serves or starts in a slot that is not below `places`, by name."""
        self._count(places)
        if self._filled_below == len(self._filled):
            return []
        slots = sorted(index for index in self._filled if index >= places)
        return [worker for index in slots for worker in self.in_slot(index) if worker.serving]

    def _count(self, places: int) -> None:
        if places != self._places:
            self._places = places
            self._filled_below = sum(index < places for index in self._filled)

    def in_slot(self, index: int) -> Sequence[Worker]:
        """Every worker of the slot, oldest first."""
        return self._slots.get(index, ())

    def running_in(self, index: int) -> Worker | None:
        """Who serves in the slot."""
        return next((w for w in self.in_slot(index) if w.phase is Phase.RUNNING), None)

    def starts_in(self, index: int) -> bool:
        """Whether somebody starts in the slot."""
        return any(w.phase is Phase.STARTING for w in self.in_slot(index))

    def add(self, worker: Worker) -> None:
        """A worker in its phase."""
        here = self._slots.setdefault(worker.id.slot, [])
        here.append(worker)
        here.sort(key=lambda w: w.id)
        self._enter(worker)

    def drop(self, worker: Worker) -> None:
        """It is gone."""
        self._leave(worker)
        here = self._slots[worker.id.slot]
        here.remove(worker)
        if not here:
            del self._slots[worker.id.slot]

    def move(self, worker: Worker, phase: Phase) -> None:
        """It changes its phase."""
        self._leave(worker)
        worker.phase = phase
        self._enter(worker)

    def _enter(self, worker: Worker) -> None:
        self.in_phase[worker.phase][worker.id] = worker
        if worker.phase is Phase.RUNNING and worker.wants is not None:
            self.wanting[worker.id] = worker
        if worker.serving:
            before = self._filled.get(worker.id.slot, 0)
            self._filled[worker.id.slot] = before + 1
            self._filled_below += before == 0 and worker.id.slot < self._places

    def _leave(self, worker: Worker) -> None:
        del self.in_phase[worker.phase][worker.id]
        self.wanting.pop(worker.id, None)
        if worker.serving:
            left = self._filled.pop(worker.id.slot) - 1
            if left:
                self._filled[worker.id.slot] = left
            else:
                self._filled_below -= worker.id.slot < self._places
