"""Do the workers fit: the verdicts, and the arithmetic as a person reads it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.core.budget import OWN, check_budget, kept_back
from memunit.core.quantity import parse_size

M, G = 1 << 20, 1 << 30
UNIT = "MemoryMax= of memunit@app.service"


def test_too_small_writes_the_sum_out() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=1, total=G, source=UNIT)
    assert budget.kind == "too-small"
    assert budget.text == f"4 workers x 400M + 25M for memunit = 1.6G, more than the 1G of {UNIT}"
    assert budget.remedy == "lower the limit to 249M, run 2 workers or raise MemoryMax= to 1625M or more"


def test_the_machine_has_no_directive_to_raise() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=1, total=G, source="the machine")
    assert budget.text == "4 workers x 400M + 25M for memunit = 1.6G, more than the 1G of the machine"
    assert budget.remedy == "lower the limit to 249M or run 2 workers"


def test_one_worker_that_does_not_fit_cannot_become_fewer() -> None:
    budget = check_budget(count=1, limit=2 * G, surge=1, total=G, source="the machine")
    assert budget.kind == "too-small"
    assert budget.text == "1 worker x 2G + 25M for memunit = 2G, more than the 1G of the machine"
    assert budget.remedy == "lower the limit to 999M"


def test_no_room_at_all_has_a_remedy_too() -> None:
    budget = check_budget(count=2, limit=10 * M, surge=1, total=M // 2, source="the machine")
    assert (budget.kind, budget.remedy) == ("too-small", "no worker has room here")


def test_figures_that_would_round_to_the_same_are_told_apart() -> None:
    budget = check_budget(count=4, limit=250 * M, surge=1, total=G, source=UNIT)
    assert budget.text == f"4 workers x 250M + 25M for memunit = 1025M, more than the 1024M of {UNIT}"
    budget = check_budget(count=1, limit=G + 1 - 25 * M, surge=1, total=G, source=UNIT)
    assert "= 1073741825, more than the 1G of" in budget.text


def test_without_room_for_the_surge_the_order_is_reversed_and_said_so() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=1, total=1800 * M, source=UNIT)
    assert budget.kind == "no-surge"
    assert budget.text == (
        f"4 workers x 400M + 25M for memunit = 1.6G, but 5 are 2G, more than the 1.8G of {UNIT}: no room for one "
        "more during replacement, so each worker stops before its replacement starts, one at a time"
    )
    assert budget.remedy == ""


def test_it_fits_with_its_surge() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=1, total=8 * G, source="the machine")
    assert budget.kind == "fits"
    assert (
        budget.text
        == "4 workers x 400M + 25M for memunit = 1.6G of the 8G of the machine, with room for 1 more"
    )


def test_a_surge_that_fits_in_part_fits() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=4, total=2425 * M, source="the machine")
    assert budget.kind == "fits"
    assert budget.text.endswith("with room for 2 more")


def test_a_surge_that_just_fits_fits() -> None:
    """A byte less, and each worker would stop before its replacement starts."""
    budget = check_budget(count=4, limit=400 * M, surge=1, total=2025 * M, source="the machine")
    assert (budget.kind, budget.text[-20:]) == ("fits", "with room for 1 more")
    budget = check_budget(count=4, limit=400 * M, surge=1, total=2025 * M - 1, source="the machine")
    assert budget.kind == "no-surge"


def test_surge_0_is_reversed_by_choice() -> None:
    budget = check_budget(count=4, limit=400 * M, surge=0, total=1625 * M, source="the machine")
    assert budget.kind == "fits"
    assert budget.text.endswith("surge is 0: each stops before its replacement starts")


def test_without_a_limit_or_a_total_there_is_no_sum() -> None:
    assert check_budget(count=4, limit=None, surge=1, total=1, source="x").kind == "fits"
    assert check_budget(count=4, limit=G, surge=1, total=0, source="unknown").kind == "fits"


@given(
    count=st.integers(1, 1024),
    limit=st.integers(1, 1 << 45),
    surge=st.integers(0, 8),
    total=st.integers(1, 1 << 50),
)
def test_the_verdict_is_the_sum(count: int, limit: int, surge: int, total: int) -> None:
    budget = check_budget(count=count, limit=limit, surge=surge, total=total, source=UNIT)
    if count * limit + OWN > total:
        assert budget.kind == "too-small"
        assert budget.remedy
    elif surge and (count + 1) * limit + OWN > total:
        assert budget.kind == "no-surge"
    else:
        assert budget.kind == "fits"


@given(count=st.integers(1, 64), limit=st.integers(M, 1 << 40), total=st.integers(64 * M, 1 << 40))
def test_the_remedies_are_true(count: int, limit: int, total: int) -> None:
    budget = check_budget(count=count, limit=limit, surge=0, total=total, source=UNIT)
    if budget.kind != "too-small":
        return
    words = budget.remedy.replace(",", "").split()
    after = dict(pairwise(words))
    raised = parse_size(words[words.index("MemoryMax=") + 2])
    assert raised is not None
    assert count * limit + OWN <= raised
    if "limit" in after:
        lowered = parse_size(words[words.index("limit") + 2])
        assert lowered is not None
        assert count * lowered + OWN <= total
    if "run" in after:
        assert int(after["run"]) * limit + OWN <= total


@pytest.mark.parametrize(
    ("total", "held", "kept"),
    [
        (1 << 30, 0, 25),
        (100 * M, 0, 25),
        (80 * M, 0, 20),
        (64 * M, 0, 16),
        (64 * M, 11 * M, 16),
        (64 * M, 14 * M + 400_000, 19),
        (40 * M, 0, 16),
        (64 * M, 18 * M + 1, 23),
        (1 << 30, 40 * M, 45),
        (30 * M, 18 * M, 15),
    ],
)
def test_the_master_keeps_its_share_and_what_it_holds(total: int, held: int, kept: int) -> None:
    assert kept_back(total, held) == kept * M
