"""Least squares with parts that are not negative (Lawson and Hanson, Solving Least Squares Problems, 23), for a few
dozen columns."""

from __future__ import annotations

from operator import mul
from typing import List, Sequence

_RIDGE = 1e-9
_NOTHING = 1e-9

Matrix = Sequence[Sequence[float]]


def solve(gram: Matrix, right: Sequence[float]) -> List[float]:
    """The parts x >= 0 for which |Ax - b| is least, of A'A and A'b. The columns of A have a norm of about one."""
    count = len(right)
    parts = [0.0] * count
    inside: List[int] = []
    scale = max((abs(value) for value in right), default=0.0)
    for _ in range(3 * count):
        slopes = [right[i] - sum(map(mul, gram[i], parts)) for i in range(count)]
        outside = [i for i in range(count) if i not in inside and slopes[i] > _NOTHING * scale]
        if not outside:
            break
        newest = max(outside, key=slopes.__getitem__)
        inside.append(newest)
        while True:
            found = _solve_square([[gram[i][j] for j in inside] for i in inside], [right[i] for i in inside])
            if min(found) > 0:
                break
            # As far towards it as all parts stay at or over nothing; the first that reaches it goes.
            steps = [
                parts[i] / (parts[i] - value) if parts[i] > value else 1.0
                for i, value in zip(inside, found)  # noqa: B905  Python 3.9
                if value <= 0
            ]
            step = min(steps)
            for i, value in zip(inside, found):  # noqa: B905
                parts[i] += step * (value - parts[i])
            least = min(inside, key=parts.__getitem__)
            for i in [i for i in inside if parts[i] <= _NOTHING * scale or i == least]:
                parts[i] = 0.0
                inside.remove(i)
            if not inside:
                return parts
        for i, value in zip(inside, found):  # noqa: B905
            parts[i] = value
        if parts[newest] == 0.0:
            break
    return parts


def remainder(square: float, gram: Matrix, right: Sequence[float], parts: Sequence[float]) -> float:
    """|Ax - b| squared, `square` is |b| squared."""
    own = sum(part * sum(map(mul, row, parts)) for part, row in zip(parts, gram) if part)  # noqa: B905
    rest: float = square - 2 * sum(map(mul, right, parts)) + own
    return max(0.0, rest)


def _solve_square(matrix: List[List[float]], right: List[float]) -> List[float]:
    """By Cholesky's decomposition; a ridge keeps columns that are alike from having no answer."""
    count = len(right)
    lower = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in range(i + 1):
            value = matrix[i][j] - sum(map(mul, lower[i][:j], lower[j][:j]))
            if i == j:
                lower[i][i] = max(value + _RIDGE * matrix[i][i], 1e-30) ** 0.5
            else:
                lower[i][j] = value / lower[j][j]
    forward: List[float] = []
    for i in range(count):
        forward.append((right[i] - sum(map(mul, lower[i][:i], forward))) / lower[i][i])
    back = [0.0] * count
    for i in reversed(range(count)):
        rest = sum(lower[k][i] * back[k] for k in range(i + 1, count))
        back[i] = (forward[i] - rest) / lower[i][i]
    return back
