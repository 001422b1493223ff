"""The configurations that the workers of a master use, each with its revision number."""

from collections.abc import Collection, Mapping

from memunit.core.model import Worker
from memunit.master import metricfiles
from memunit.master.setting import Configuration


class Revisions:
    """The known configurations: a reload adds one, and one that no worker uses any more is forgotten."""

    def __init__(self, known: Mapping[int, Configuration]) -> None:
        self._known = dict(known)
        self._last = max(known)

    def __getitem__(self, revision: int) -> Configuration:
        return self._known[revision]

    def __contains__(self, revision: int) -> bool:
        return revision in self._known

    def known(self) -> dict[int, Configuration]:
        """All of them."""
        return dict(self._known)

    def of(self, worker: Worker, used: int) -> Configuration:
        """The one that a worker is of; that of the revision which is `used` now if that one is not known any more."""
        return self._known.get(worker.revision, self._known[used])

    def nearest(self, revision: int) -> Configuration:
        """The one of this revision, or the newest if it is not known."""
        return self._known[revision if revision in self._known else max(self._known)]

    def reserve(self, revisions: Collection[int]) -> None:
        """Workers of these revisions are there: none of the numbers is given again."""
        self._last = max(self._last, *revisions, 1)

    def add(self, configuration: Configuration) -> int:
        """The revision of a configuration that is new."""
        self._last += 1
        self._known[self._last] = configuration
        return self._last

    def keep(self, used: Collection[int]) -> None:
        """Forget all others."""
        self._known = {each: kept for each, kept in self._known.items() if each in used}

    def forget_metrics(self, pid: int) -> None:
        """Remove the metric files of a process that has ended, for each revision that is still known."""
        known = self._known.values()
        for place in {metricfiles.folder(each.environment, each.directory) for each in known}:
            if place is not None:
                metricfiles.remove(place, pid)
