"""The interfaces that a master has, as varlink describes them (https://varlink.org/Interface-Definition)."""

from memunit.core.varlink import SERVICE

INSTANCE = "io.memunit.Instance"
SYSTEMD = "io.systemd.service"

_SERVICE_TEXT = """\
# The interface that each varlink service has.
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)

error MethodNotFound (method: string)

error MethodNotImplemented (method: string)

error InvalidParameter (parameter: string)

error PermissionDenied ()

error ExpectedMore ()
"""

_SYSTEMD_TEXT = """\
# As the services of systemd have it.
interface io.systemd.service

method Ping() -> ()

# As Reload of io.memunit.Instance, without its text.
method Reload() -> ()

# Entries that matter less than this level of syslog(3) are not written from now on; null is 7. The entries of ends are
# written at any level.
method SetLogLevel(level: ?int) -> ()

# The variables of the master's environment. For root and the service's own user alone.
method GetEnvironment() -> (environment: ?[]string)

error InconsistentEnvironment ()
"""

_INSTANCE_TEXT = """\
# One instance of memunit: its workers, and what can be asked of its master. Sizes are bytes. Times that end in
# MonotonicUSec are microseconds of CLOCK_MONOTONIC.
interface io.memunit.Instance

# How many workers ended by a cause; those of scale-down and stop are not counted.
type Ended (cause: string, count: int)

# What is free of the memory that this instance may use, and whose bound it is.
type Memory (total: int, available: int, source: string)

# An instance. `ready` workers serve; `count` is how many are to serve, `fileCount` how many by the file. `limit` and
# `ceiling` are those for workers that are started now. `settings` are in effect until the next reload alone. `ended`
# counts since the master was started, `endedLastHour` since an hour ago, or since the master executed itself anew.
type Instance (
  name: string,
  version: string,
  masterPid: int,
  count: int,
  fileCount: int,
  ready: int,
  revision: int,
  reloading: bool,
  stopping: bool,
  startedMonotonicUSec: int,
  nowMonotonicUSec: int,
  limit: ?int,
  ceiling: ?int,
  status: string,
  trouble: ?string,
  settings: [string]string,
  ended: []Ended,
  endedLastHour: []Ended,
  memory: ?Memory
)

# The requests of a worker that serves an app (asgi, wsgi, node): those that it has answered, and those that it has in
# work; of the one that has been so for the longest, the route and the time.
type Requests (served: int, inWork: int, longestRoute: ?string, longestUSec: ?int)

# A worker. `phase` is starting, running, stop-sigterm or stop-sigkill. `memory` was measured at `sampledMonotonicUSec`.
# `growth` is in bytes an hour, and `untilLimitUSec` counts from that measurement. `wants` is why it is to be replaced,
# `reason` why it is being stopped.
type Worker (
  slot: int,
  generation: int,
  pid: int,
  phase: string,
  revision: int,
  startedMonotonicUSec: int,
  phaseMonotonicUSec: int,
  readyMonotonicUSec: ?int,
  stopMonotonicUSec: ?int,
  memory: ?int,
  metric: ?string,
  sampledMonotonicUSec: ?int,
  limit: ?int,
  ceiling: ?int,
  growth: ?int,
  untilLimitUSec: ?int,
  wants: ?string,
  reason: ?string,
  status: ?string,
  requests: ?Requests
)

# One end: the sentence of its entry in the journal.
type End (slot: int, generation: int, cause: string, text: string, atMonotonicUSec: int)

# What a worker has written of itself. It is not `complete` when the worker did not come to its last line in time.
type WorkerStacks (slot: int, generation: int, pid: int, text: string, complete: bool)

method Describe() -> (instance: Instance)

# All workers, or those of one slot.
method Workers(slot: ?int) -> (workers: []Worker)

# All that is known, and with `more` again when it has changed, once a second at most. `ends` are those since the reply
# before, the last 16 at most. `missed` counts the replies that were left out because the client did not read.
method Follow() -> (instance: Instance, workers: []Worker, ends: []End, missed: int)

# Replace all workers that serve, one after the other, or the one of a slot, or the one with this pid. Returns at once,
# with those that will be replaced.
method Recycle(slot: ?int, pid: ?int) -> (workers: []Worker)

# Have so many workers, until the next reload.
method Scale(count: int) -> (count: int)

# Read the file again. Returns when each worker is a new one.
method Reload() -> (text: string)

# Change settings until the next reload: their names and values are those of memunit.toml(5), as memory.limit and 500M.
# Returns all that are in effect until then.
method Set(settings: [string]string) -> (settings: [string]string)

# Have Python workers write the stack of each thread and of each asyncio task: all that serve, or that of one slot, or
# the one with this pid.
method Stacks(slot: ?int, pid: ?int) -> (stacks: []WorkerStacks)

# No worker that serves is meant.
error NoSuchWorker (reason: string)

# The count can't be had.
error CantScale (reason: string)

# The old configuration goes on serving.
error ReloadFailed (reason: string)

# A setting can't be changed so.
error CantSet (setting: string, reason: string)

# A worker has no stacks that it could write.
error NoStacks (reason: string)
"""

DESCRIPTIONS = {SERVICE: _SERVICE_TEXT, INSTANCE: _INSTANCE_TEXT, SYSTEMD: _SYSTEMD_TEXT}
"""The text of each interface, by its name."""
