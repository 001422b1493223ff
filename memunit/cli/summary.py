"""What `memunit check` prints of settings that are good."""

import shlex
from pathlib import Path

from memunit.cli.room import worker_count
from memunit.cli.start import is_node
from memunit.core.budget import Budget
from memunit.core.quantity import format_size, format_time
from memunit.core.settings import Settings
from memunit.core.unitfile import listening, memory_max, user_of


def summary(settings: Settings, path: Path, budget: Budget, listen: list[str]) -> list[str]:
    """What is in effect, defaults and all; `listen` is where systemd says that it listens, if it does."""
    app, workers, memory = settings.app, settings.workers, settings.memory
    if is_node(settings):
        what = f"{app.run} (node), {app.node or 'the node in PATH'}"
    elif app.run is not None:
        how = app.server + {"True": ", preloaded", "False": ""}.get(str(app.preload), ", preload auto")
        what = f"{app.run} ({how}), " + (app.python or "memunit's own interpreter")
    else:
        what = f"{shlex.join(app.command or ())} (ready: {app.ready})"
    count = worker_count(settings)
    of_cpus = " (auto: the CPUs of this machine)" if workers.count is None else ""
    watchdog = format_time(workers.watchdog)
    times = (
        f"start_timeout {format_time(workers.start_timeout)}, watchdog {watchdog}, "
        f"min_lifetime {format_time(workers.min_lifetime)}, max_age {format_time(workers.max_age)}"
    )
    metric = "cgroup, or else uss" if memory.measured == "cgroup" else memory.measured
    bounds = (
        f"limit {format_size(memory.limit)}, ceiling {format_size(memory.ceiling)}, metric {metric} "
        f"every {format_time(memory.interval)}, patience {format_time(memory.patience)}"
    )
    http = settings.http
    requests = (
        f"head_size {format_size(http.head_size)} in {format_time(http.head_timeout)}, "
        f"body_size {format_size(http.body_size)}, body_timeout {format_time(http.body_timeout)}"
    )
    own = app.run is not None and app.server in ("asgi", "wsgi")
    return [
        f"{path}: good",
        f"  app      {what}",
        f"  in       {app.directory or 'the working directory of the unit'}",
        f"  listen   {', '.join(listen or listening(settings.socket, path.stem))}",
        f"  workers  {count}{of_cpus}, surge {workers.surge}, {times}",
        f"  memory   {bounds}",
        *([f"  http     {requests}"] if own else []),
        f"  stop     {settings.stop.signal}, grace {format_time(settings.stop.grace)}",
        f"  examine  {_examination(settings)}",
        f"  recorder {format_size(settings.recorder.size) if settings.recorder.size else 'off'}",
        f"  service  {_as_service(settings, path.stem)}",
        f"  budget   {budget.text}",
    ]


def _examination(settings: Settings) -> str:
    examine = settings.examine
    if not examine.time:
        return "off"
    command = f", command {shlex.join(examine.command)}" if examine.command else ""
    return f"for {format_time(examine.time)} within {format_size(examine.memory)}, at a recycle for memory{command}"


def _as_service(settings: Settings, instance: str) -> str:
    service, most = settings.service, memory_max(settings, worker_count(settings))
    user = user_of(service, instance) or "the dynamic user of all instances"
    said = {
        "environment_files": ", ".join(service.environment_files),
        "credentials": ", ".join(service.credentials),
        "writable": ", ".join(service.writable),
    }
    return "; ".join(
        [
            f"runs as {user}" + (f", group {service.group}" if service.group else ""),
            *(f"{name} {text}" for name, text in said.items() if text),
            f"umask {service.umask:04o}, network {service.network}",
            f"watchdog {format_time(service.watchdog)}, MemoryMax={format_size(most)}",
        ]
    )
