"""What the documents say in figures is what the tests measure."""

from pathlib import Path

from tests.support.known import table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_worked_example_of_memory() -> None:
    """tests/booted/test_memory_counted.py measures it."""
    assert table() in (DOCS / "memory.md").read_text()
