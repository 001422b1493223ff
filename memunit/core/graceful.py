"""Programs whose graceful stop is SIGQUIT, as a `command`: what loses requests, or all clients (docs/commands.md)."""

from collections.abc import Mapping, Sequence

from memunit.core.commands import flat

_NAMES = ("nginx", "php-fpm")


def program_of(command: Sequence[str]) -> str | None:
    """ "nginx" or "php-fpm" ("php-fpm8.2" too), also behind env(1) or a shell; None for others."""
    for word in flat(command):
        name = word.rpartition("/")[2].rstrip("0123456789.")
        if name in _NAMES:
            return name
    return None


def warnings_of_signal(command: Sequence[str], stop_signal: str) -> list[tuple[str, str, str]]:
    """(key, what will happen, remedy) of a command that is stopped by another signal than its graceful one."""
    name = program_of(command)
    if name is None or stop_signal == "SIGQUIT":
        return []
    text = f"{name} ends at once at {stop_signal}: each recycle and each reload cuts off the requests that it has"
    remedy = 'say signal = "SIGQUIT" in [stop]'
    return [("stop.signal", text, remedy)]


def unlinks(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The path of a Unix socket that php-fpm takes away when a worker ends, though all others serve on it; else None.

    It knows its sockets by the names in FPM_SOCKETS ("name=descriptor,..."), and removes each that is a path.
    """
    if program_of(command) != "php-fpm":
        return None
    names = [each.rpartition("=")[0] for each in environment.get("FPM_SOCKETS", "").split(",")]
    return next((name for name in names if name.startswith("/")), None)
