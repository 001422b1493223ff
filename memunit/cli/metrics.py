"""`memunit metrics INSTANCE`: what an instance does as metrics of Prometheus; printed, or served on inherited sockets.

As memunit-metrics@.socket starts it, it answers scrapes until none has come for a while: docs/prometheus.md. As
memunit-varlink-metrics@.socket does, it answers systemd-report(1). It asks the master by its interface, once a second
at most, whatever is asked of it.

Exit codes: 0 printed, or nobody asks any more; 64 wrong command line; 69 the master does not answer (memunit_up is 0),
or prometheus_client is not there; 77 neither root nor the service's own user.
"""

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence

from memunit.cli import linked
from memunit.cli.failing import Failed, instance_named, say
from memunit.cli.scrapes import Answer, Scrape
from memunit.cli.terminal import emit
from memunit.cli.usage import Parser
from memunit.cli.visits import Talk, Visits
from memunit.core.exitcodes import EX_UNAVAILABLE
from memunit.core.metrics import Measure, measured
from memunit.core.varlink import Refused

_PROGRAM = "memunit metrics"
_DESCRIPTION = """\
Print what an instance does as metrics of Prometheus: workers, memory, recycles by cause, drain times, reloads,
requests. With sockets that systemd passes on, as memunit-metrics@INSTANCE.socket does, answer scrapes there."""
_EPILOG = """\
examples:
  memunit metrics shop                                  the metrics as they are now
  systemctl enable --now memunit-metrics@shop.socket    for Prometheus: docs/prometheus.md

exit codes: 0 done, 64 wrong command line, 69 not running, a master that does not answer, or no prometheus_client,
77 only root and the user of the service may call"""
_FIRST_DESCRIPTOR = 3
# The name of sockets for varlink, as systemd's own units have it (FileDescriptorName=).
_VARLINK = "varlink"
# Seconds for each step of asking the master: together less than the ten that Prometheus waits for a scrape.
_PATIENCE = 3.0
# Seconds for which a reply serves those who ask next.
_REST = 1.0
# Seconds without a scrape until it ends: longer than people wait between two.
_IDLE = 150.0
# Seconds from a master that is gone to the end: what was not there when a sandbox was made is in the next one only.
_STALE = 60.0
# Seconds after which the next process takes over in any case: it may be of a newer package.
_LIFE = 3600.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("instance", metavar="INSTANCE", help="which")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    asking = Asking(instance)
    listeners = _inherited()
    if listeners:
        ends = time.monotonic() + _LIFE
        Visits(
            [(each, _talk(name, each, instance, asking)) for name, each in listeners],
            idle=_IDLE,
            leaves=lambda: min(ends, asking.gone_since + _STALE),
        ).run()
        return 0
    answer = asking.answer("")
    if answer.status != 200:
        return EX_UNAVAILABLE
    code = emit(answer.body.decode())
    return asking.code or code


def _talk(name: str, listener: socket.socket, instance: str, asking: "Asking") -> Callable[[], Talk]:
    """What is spoken there: varlink on a socket of this name, HTTP on all others."""
    if name != _VARLINK:
        return lambda: Scrape(asking.answer)
    from memunit.cli.provider import Provider  # noqa: PLC0415  a scrape needs none

    # The families are called as the socket is, which a drop-in may have given another name.
    path = listener.getsockname()
    called = path.rpartition("/")[2] if isinstance(path, str) else ""
    return Provider(instance, called or f"io.memunit.{instance}", asking.measures).talk


class Asking:
    """A master, asked when a scrape wants to know and its last reply is old."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._measures: list[Measure] = []
        self._asked = -math.inf
        self._said = ""
        self.gone_since = math.inf
        """Since when it does not answer, or can't be told of; infinite while it does."""
        self.code = 0
        """The exit code of the last attempt."""

    def answer(self, accept: str) -> Answer:
        """What a scrape gets, whose client takes `accept`."""
        try:
            from memunit.cli.families import families, rendered  # noqa: PLC0415  may not be there
        except ModuleNotFoundError as error:
            if error.name != "prometheus_client":
                raise
            text = (
                f"{sys.executable} does not have prometheus_client, which metrics need; "
                "apt install python3-prometheus-client, or pip install 'memunit[metrics]'"
            )
            self._fails(text, EX_UNAVAILABLE)
            return Answer(f"{text}\n".encode(), status=500)
        return Answer(*rendered(families(self._instance, self.measures()), accept))

    def measures(self) -> list[Measure]:
        """What the master tells, by Follow, or has told a moment ago: computed once for each of its replies."""
        if time.monotonic() >= self._asked + _REST:
            self._measures = self._ask()
            self._asked = time.monotonic()
        return self._measures

    def _ask(self) -> list[Measure]:
        """Without a reply that is known here, only that there is none."""
        try:
            with linked.connected(self._instance, _PATIENCE) as link:
                told = link.call("Follow")
        except Failed as failed:
            self._fails(str(failed), failed.code)
        except Refused as refused:
            self._fails(str(linked.told(self._instance, refused)), EX_UNAVAILABLE)
        except OSError as error:
            known = linked.failure(self._instance, error)
            self._fails(str(known), known.code)
        else:
            try:
                measures = list(measured(told))
            except Exception:
                text = f"the master of {self._instance} sends an answer that this version does not know"
                self._fails(text, EX_UNAVAILABLE)
            else:
                self.gone_since, self._said, self.code = math.inf, "", 0
                return measures
        return list(measured(None))

    def _fails(self, text: str, code: int) -> None:
        """Said once, until something else is to be said."""
        self.gone_since, self.code = min(self.gone_since, time.monotonic()), code
        if text != self._said:
            self._said = text
            say(text)


def _inherited() -> list[tuple[str, socket.socket]]:
    """The sockets that systemd has passed on to this process, by name (sd_listen_fds_with_names(3))."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    names = dict(enumerate(os.environ.get("LISTEN_FDNAMES", "").split(":")))
    found = range(min(int(count), 64))
    return [(names.get(each, ""), socket.socket(fileno=_FIRST_DESCRIPTOR + each)) for each in found]
