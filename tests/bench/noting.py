"""What a zygote pays to note the lengths of all that it holds, once, before its first worker serves.

By kinds of heaps, each made in a process of its own: CPU time of the notes, and that for each 100,000 objects that the
garbage collector knows. The least of ROUNDS, for a cache that another process has emptied is not what is asked.
"""

import contextlib
import gc
import importlib
import pkgutil
import subprocess
import sys
import time
from collections.abc import Callable

from memunit.worker.examination import baseline

ROUNDS = 7


class _Product:
    def __init__(self, number: int) -> None:
        self.number, self.name, self.tags = number, f"product {number}", ["new", number]


def _instances() -> object:
    return [_Product(number) for number in range(125_000)]


def _lists() -> object:
    return {f"key {number}": [[number, part] for part in range(40)] for number in range(6000)}


def _rows() -> object:
    return [{"id": number, "words": ("a", number), "more": {number: [number]}} for number in range(80_000)]


def _modules() -> object:
    """Functions and classes, as an app has them whose frameworks are large."""
    found = []
    for name in (
        "email",
        "xml.dom",
        "xml.etree",
        "concurrent.futures",
        "http",
        "json",
        "multiprocessing",
        "unittest",
    ):
        package = importlib.import_module(name)
        found.append(package)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            if module.name.endswith("__main__"):
                continue
            # Those of other systems can't be imported.
            with contextlib.suppress(ImportError):
                found.append(importlib.import_module(module.name))
    return found


HEAPS: dict[str, Callable[[], object]] = {
    "an interpreter and nothing else": lambda: None,
    "modules, functions and classes": _modules,
    "instances, each with a list": _instances,
    "short lists in long ones": _lists,
    "dictionaries and tuples": _rows,
}


def main() -> None:
    """Measure and print."""
    for name in HEAPS:
        subprocess.run([sys.executable, "-m", __name__, name], check=True)


def _measure(name: str) -> None:
    kept = HEAPS[name]()
    baseline.expect_in_zygote()
    took = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        baseline.note_in_zygote()
        took.append(1000 * (time.process_time() - begun))
    count = len(gc.get_objects())
    print(
        f"{name}: {count} objects, {min(took):.0f} ms (at most {max(took):.0f}), "
        f"{min(took) / count * 100_000:.0f} ms for each 100,000",
        flush=True,
    )
    del kept


if __name__ == "__main__":
    _measure(sys.argv[1])
