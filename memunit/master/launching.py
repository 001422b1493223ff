"""What a worker is started with: by the configuration, by the worker itself, and by what it was given beside them."""

import math

from memunit.core.actions import Spawn
from memunit.core.model import Worker
from memunit.master.belongings import Belongings
from memunit.master.child import Launch
from memunit.master.setting import Configuration, Setting
from memunit.master.sockets import addresses


def label_of(action: Spawn) -> str:
    """What the group and the belongings of a worker are called by."""
    return f"{action.id.slot}.{action.id.generation}"


def launch_of(
    action: Spawn,
    worker: Worker,
    configuration: Configuration,
    setting: Setting,
    group: str,
    belongings: Belongings,
) -> tuple[Launch, dict[str, str]]:
    """How it is started, and the variables that are its own: a zygote that forks it has all else of the launch.

    `group` is the path of its group, "" for none. What it is to have of `belongings` is made for it.
    """
    own = {"MEMUNIT_SLOT": str(action.id.slot), "MEMUNIT_GENERATION": str(action.id.generation)}
    told = {"MEMUNIT_LISTEN": addresses(setting.sockets)} if configuration.node else {}
    line = belongings.assign(action.id) if configuration.spread else None
    if line is not None:
        own["MEMUNIT_SCOREBOARD_LINE"] = str(line)
    watch = belongings.watch(action.id, label_of(action)) if worker.gives else configuration.watch
    if watch:
        # For one that is forked from a zygote; the others have it from their launch.
        own["MEMORY_PRESSURE_WATCH"] = watch
    launch = Launch(
        argv=configuration.argv,
        environment={**configuration.environment, "MEMUNIT_INSTANCE": setting.instance, **told},
        directory=configuration.directory,
        sockets=setting.sockets,
        notify_path=setting.notify_path,
        notify_descriptor=configuration.node,
        watchdog_usec=0 if math.isinf(action.watchdog) else int(action.watchdog * 1e6),
        parent_death_signal=setting.parent_death_signal,
        stop_signal=worker.stop_signal,
        cgroup=group,
        # Also without a line: of a zygote, others may have one.
        scoreboard=belongings.scoreboard if configuration.spread else -1,
        pressure_watch=watch,
        board=belongings.page(action.id) if configuration.board else -1,
    )
    return launch, own
