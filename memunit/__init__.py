"""memunit: memory-bounded workers for any socket-activated systemd service.

Light on purpose, and fit for Python 3.9: workers import this package inside the app's own interpreter, and so does
memunit-generator(8), for which systemd waits. To import typing would take as long as the rest of its start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memunit.library import run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> "Any":
    """Import `memunit.run` when it is first asked for (PEP 562): a worker never pays for the master's imports."""
    if name == "run":
        from memunit.library import run  # noqa: PLC0415  lazy by design, see above

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
