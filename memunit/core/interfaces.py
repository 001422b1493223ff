"""The interfaces that a master has, as varlink describes them (https://varlink.org/Interface-Definition)."""

from memunit.core.varlink import SERVICE

INSTANCE = "io.memunit.Instance"
SYSTEMD = "io.systemd.service"

SERVICE_TEXT = """\
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
# The interface that systemd's own services have.
interface io.systemd.service

method Ping() -> ()

# Does the same as Reload of io.memunit.Instance, without its text.
method Reload() -> ()

# From now on the master writes only entries of this level of syslog(3) or a more important one; null means 7. It writes
# entries of ends at any level.
method SetLogLevel(level: ?int) -> ()

# Returns the environment of the master. Only root and the user of the service may call it.
method GetEnvironment() -> (environment: ?[]string)

error InconsistentEnvironment ()
"""

_INSTANCE_TEXT = """\
# One instance of memunit: its workers, and the methods of its master. Sizes are in bytes. Fields that end in
# MonotonicUSec are microseconds of CLOCK_MONOTONIC.
interface io.memunit.Instance

# How many workers ended with a cause. Ends by scale-down and stop do not count.
type Ended (cause: string, count: int)

# The memory that this instance may use, how much of it is free, and whose bound it is.
type Memory (total: int, available: int, source: string)

# How long workers took from the order to stop until their end. `counts` has one number for each bound: how many took
# that long at most, and longer than the bound before. Its last number is how many took longer than all bounds.
type Drains (boundsUSec: []int, counts: []int, sumUSec: int)

# What only rises, since the master was started: requests that workers which have ended had answered; reloads that were
# done and that failed; recycles for memory that did not help. `takeovers` counts how often
# a new master has taken over the workers of a master that died.
type Tally (
  served: int,
  reloads: int,
  reloadsFailed: int,
  recyclesInVain: int,
  takeovers: int,
  drains: Drains
)

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
  tally: Tally,
  memory: ?Memory
)

# The requests of a worker that serves an app (asgi, wsgi, node): how many it has answered, how many it has in work, and
# the route and the time of the longest request in work.
type Requests (served: int, inWork: int, longestRoute: ?string, longestUSec: ?int)

# A worker. `phase` is starting, running, stop-sigterm or stop-sigkill. `memory` was measured at `sampledMonotonicUSec`.
# `growth` is in bytes an hour, and `untilLimitUSec` counts from that measurement. `wants` is the cause for which the
# worker will be replaced, `reason` the cause for which it is being stopped.
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

# The end of a worker. `text` is the sentence of its entry in the journal.
type End (slot: int, generation: int, cause: string, text: string, atMonotonicUSec: int)

# The stacks that a worker has written. `complete` is false if the worker did not finish in time.
type WorkerStacks (slot: int, generation: int, pid: int, text: string, complete: bool)

# Returns the instance.
method Describe() -> (instance: Instance)

# Returns all workers, or the workers of one slot.
method Workers(slot: ?int) -> (workers: []Worker)

# Returns the instance, all workers and the last ends. With `more`, it sends a new reply after each change, once a
# second at most. `ends` has the ends since the previous reply, the last 16 at most. `missed` counts the replies that
# the client lost because it did not read.
method Follow() -> (instance: Instance, workers: []Worker, ends: []End, missed: int)

# Replaces all workers that serve, one after the other, or the worker of a slot, or the worker with this pid. Returns at
# once, with the workers that will be replaced.
method Recycle(slot: ?int, pid: ?int) -> (workers: []Worker)

# Changes the number of workers, until the next reload.
method Scale(count: int) -> (count: int)

# Reads the file again. Returns when all workers are replaced.
method Reload() -> (text: string)

# Changes settings until the next reload. Names and values are as in memunit.toml(5), for example memory.limit and 500M.
# Returns all changes that are in effect until then.
method Set(settings: [string]string) -> (settings: [string]string)

# Returns the stack of each thread and each asyncio task of Python workers: of all that serve, of the worker of one
# slot, or of the worker with this pid.
method Stacks(slot: ?int, pid: ?int) -> (stacks: []WorkerStacks)

# The slot or pid is not the slot or pid of a worker that serves.
error NoSuchWorker (reason: string)

# The instance can't have that number of workers.
error CantScale (reason: string)

# The old configuration goes on serving.
error ReloadFailed (reason: string)

# The setting can't get that value.
error CantSet (setting: string, reason: string)

# None of these workers can write stacks.
error NoStacks (reason: string)
"""

DESCRIPTIONS = {SERVICE: SERVICE_TEXT, INSTANCE: _INSTANCE_TEXT, SYSTEMD: _SYSTEMD_TEXT}
"""The text of each interface, by its name."""
