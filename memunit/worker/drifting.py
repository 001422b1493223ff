"""Which sum explains a series best, where what no sum explains partly drifts, and partly comes and goes.

Two series that drift go together for a while without any reason (Granger and Newbold, Spurious Regressions in
Econometrics, 1974), and the requests of two routes drift, as the memory does that some requests leave by chance. So
what is unexplained is taken for a level that moves a little from note to note, with noise on it (Harvey, Forecasting,
Structural Time Series Models and the Kalman Filter, 1989, 2.3). How much of each suits a sum best, is found for each
sum of its own: an explanation without a route may say that the memory has drifted.
"""

from __future__ import annotations

import math
from operator import itemgetter, mul
from typing import List, NamedTuple, Optional, Sequence, Tuple

from memunit.worker.nonnegative import Matrix, remainder, solve

_DRIFTS = (0.0, 0.001, 0.01, 0.1, 1.0, math.inf)
"""Variance of the level's movement between two notes, in variances of the noise. Without noise, it is differences."""

Vectors = Sequence[Sequence[float]]


class Explained(NamedTuple):
    """The best explanation of one kind."""

    likelihood: float
    """Its logarithm, but for a term that is the same for each explanation of a series."""
    parts: List[float]
    """What one of each column holds."""
    follows: float
    """How much of what is unexplained at a note follows from the one before, -1 to 1: much, if the form is wrong."""


class _View(NamedTuple):
    """Columns and series as they are with one of _DRIFTS: each note less what was to be expected by those before it."""

    columns: Vectors
    levels: Sequence[float]
    gram: Matrix
    right: List[float]
    square: float
    norms: List[float]
    floor: float
    scale: float
    """The logarithm of by how much it is smaller."""


class Series:
    """Levels, and the columns that may explain them."""

    def __init__(self, columns: Vectors, levels: Sequence[float], noise: float) -> None:
        """`noise` is by how much a level is off, at the least, for no reason that is of interest."""
        self._notes = len(levels) - 1
        vectors = [*columns, levels]
        # Their sums of products are to be of a size, for the sake of the error of such a sum.
        sizes = [math.sqrt(sum(map(mul, vector, vector))) or 1.0 for vector in vectors]
        vectors = [[value / size for value in vector] for vector, size in zip(vectors, sizes)]  # noqa: B905  Python 3.9
        self._views = [_view(vectors, sizes, drift, noise) for drift in _DRIFTS]

    def explained(self) -> Explained:
        """By all columns."""
        found = [(*self._solved(view), view) for view in self._views]
        likelihood, parts, view = max(found, key=itemgetter(0))
        left = view.levels
        for part, column in zip(parts, view.columns):  # noqa: B905  Python 3.9
            if part:
                left = [value - part * each for value, each in zip(left, column)]  # noqa: B905
        follows = sum(map(mul, left, left[1:])) / (sum(map(mul, left, left)) + view.floor)
        return Explained(likelihood, [a / b for a, b in zip(parts, view.norms)], follows)  # noqa: B905

    def likelihood(self, column: int, part: float) -> float:
        """That of the best explanation in which one of this column holds so much."""
        return max(self._solved(view, column, part)[0] for view in self._views)

    def _solved(
        self, view: _View, column: Optional[int] = None, part: float = 0.0
    ) -> Tuple[float, List[float]]:
        gram, right, square = view.gram, view.right, view.square
        if column is not None:
            known = part * view.norms[column]
            square += known * (known * gram[column][column] - 2 * right[column])
            others = [place for place in range(len(right)) if place != column]
            right = [right[place] - known * gram[place][column] for place in others]
            gram = [[gram[one][other] for other in others] for one in others]
        found = solve(gram, right)
        left = remainder(max(0.0, square), gram, right, found) + view.floor
        return -self._notes / 2 * math.log(left) - view.scale, found


def _view(vectors: Vectors, sizes: Sequence[float], drift: float, noise: float) -> _View:
    """The last of the vectors are the levels."""
    gains, weights, scale = _filter(len(vectors[0]) - 1, drift)
    vectors = [_news(vector, gains, weights) for vector in vectors]
    columns, levels = vectors[:-1], [sizes[-1] * value for value in vectors[-1]]
    norms = [math.sqrt(sum(map(mul, column, column))) or 1.0 for column in columns]
    columns = [[value / norm for value in column] for column, norm in zip(columns, norms)]  # noqa: B905
    gram = [[0.0] * len(columns) for _ in columns]
    for i, one in enumerate(columns):
        for j in range(i + 1):
            gram[i][j] = gram[j][i] = sum(map(mul, one, columns[j]))
    return _View(
        columns,
        levels,
        gram,
        [sum(map(mul, column, levels)) for column in columns],
        sum(map(mul, levels, levels)),
        [norm * size for norm, size in zip(norms, sizes)],  # noqa: B905
        len(levels) * noise * noise * (2 if math.isinf(drift) else 1),  # of a difference, twice
        scale,
    )


def _filter(notes: int, drift: float) -> Tuple[List[float], List[float], float]:
    """Of each note after the first: by how much of what is new the level is moved, and the weight of what is new."""
    if math.isinf(drift):
        return [1.0] * notes, [1.0] * notes, 0.0
    gains, weights, scale, unsure = [], [], 0.0, 1.0 + drift
    for _ in range(notes):
        variance = unsure + 1.0
        gains.append(unsure / variance)
        weights.append(1.0 / math.sqrt(variance))
        scale += math.log(variance) / 2
        unsure = unsure / variance + drift
    return gains, weights, scale


def _news(vector: Sequence[float], gains: Sequence[float], weights: Sequence[float]) -> List[float]:
    level, found = vector[0], []
    for value, gain, weight in zip(vector[1:], gains, weights):  # noqa: B905
        new = value - level
        level += gain * new
        found.append(new * weight)
    return found
