"""A plugin of pytest: the files run in the order of the command line, the quickest first.

tests/process/conftest.py puts the longest files first, which suits several processes. A mutant that a test of a moment
kills had cost three minutes.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort what was collected, each file's tests in their order."""
    places = {name: place for place, name in enumerate(config.args)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))
