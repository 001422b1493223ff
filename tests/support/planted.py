"""memunit with an exception planted in it: `planted.py PLACE FILE ARGUMENT...`.

PLACE is "module:attribute", of memunit. It raises when it is called while FILE says that it is to, and counts that down
there: a master that executes itself anew is planted again, and goes on with the same count.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any


class Planted(Exception):
    """What is raised."""


def plant(place: str, file: Path) -> None:
    """Have the function at `place` raise."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(f"memunit.{module}")
    for each in owners:
        owner = getattr(owner, each)
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def raising(*arguments: Any, **options: Any) -> Any:
        left = int(file.read_text() or 0) if file.exists() else 0
        if left:
            new = file.with_suffix(".new")
            new.write_text(str(left - 1))
            new.replace(file)
            raise Planted(place)
        return whole(*arguments, **options)

    setattr(owner, name, raising)


if __name__ == "__main__":
    plant(sys.argv[1], Path(sys.argv[2]))
    from memunit.cli.main import main

    sys.argv[1:3] = []
    os.environ.pop("PYTHONSAFEPATH", None)
    sys.exit(main())
