"""The master's interface: calls from clients to facts, and what comes of them to replies. docs/interface.md tells all.

What a client asks for is a fact for policy like any other: it is recorded, and can be replayed.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from memunit import __version__
from memunit.core import facts as f
from memunit.core import interfaces, shown, varlink
from memunit.core.actions import Journal
from memunit.core.adjusting import CantSet, adjusted, cannot_scale
from memunit.core.board import Glance
from memunit.core.messages import Message
from memunit.core.model import WorkerId
from memunit.core.state import State
from memunit.core.varlink import Call, Malformed, Refused, invalid
from memunit.master.clients import Clients
from memunit.master.dumps import Dump, Dumps
from memunit.master.followers import Followers
from memunit.master.report import Reporter
from memunit.master.rights import Right
from memunit.master.setting import Setting
from memunit.master.threshold import Peer
from memunit.master.view import View

Answer = Callable[[State], Mapping[str, Any]]


class Interface:
    """Nothing is served where there is no socket."""

    def __init__(
        self,
        setting: Setting,
        clients: Clients | None,
        dumps: Dumps,
        report: Reporter,
        look: Callable[[WorkerId], Glance | None] = lambda _: None,
    ) -> None:
        """`look` gives what a worker has in work."""
        self._at, self._clients, self._dumps, self._report = setting, clients, dumps, report
        self._view = View(setting.instance, look)
        self._followers = None if clients is None else Followers(clients, self._view)
        self._answers: list[tuple[int, Call, Answer]] = []
        self._reloads: list[int] = []
        # Of each that waits for a reload, its call; of each that waits for stacks, whose they are.
        self._waiting: dict[int, Call] = {}
        self._stacks: dict[int, list[dict[str, Any]]] = {}

    @property
    def due(self) -> float:
        """When there is something to do of itself, in seconds of CLOCK_MONOTONIC."""
        if self._clients is None or self._followers is None:
            return math.inf
        return min(self._clients.due, self._dumps.due, self._followers.due)

    # -- calls -----------------------------------------------------------------------------------------------

    def facts(self, ready: Collection[int], state: State) -> list[f.Fact]:
        """Serve whoever has asked for something; what that is for policy."""
        clients = self._clients
        if clients is None:
            return []
        idle = clients.fileno() not in ready and not self._dumps.waits
        if idle and time.monotonic() < clients.due:
            return []
        found: list[f.Fact] = []
        for token, message in clients.messages():
            try:
                call = varlink.parse(message)
            except Malformed:
                clients.hang_up(token)
                continue
            try:
                found += self._begin(token, call, state)
            except Refused as refused:
                self._answer(token, call, varlink.error(refused))
        dumps = self._dumps.done()
        for dump in dumps:
            self._dumped(dump)
        for asker in {dump.token[0] for dump in dumps}:
            self._finish_stacks(asker)
        return found

    def reloads(self) -> list[int]:
        """The tokens of those who have asked for a reload; they are negative, those of the control socket are not."""
        asked, self._reloads = self._reloads, []
        return asked

    def _begin(self, token: int, call: Call, state: State) -> list[f.Fact]:
        methods = _METHODS.get(call.interface)
        if methods is None:
            raise Refused(f"{varlink.SERVICE}.InterfaceNotFound", {"interface": call.interface})
        if call.name not in methods:
            raise Refused(f"{varlink.SERVICE}.MethodNotFound", {"method": call.method})
        changes, needed, method = methods[call.name]
        assert self._clients is not None
        peer = self._clients.peer(token)
        if peer is None:
            return []
        if self._clients.right(token) < needed:
            raise Refused(varlink.DENIED)
        parameters = dict(call.parameters)
        facts = method(self, token, call, parameters, state) or []
        if changes:
            self._say(peer, call, facts)
        return list(facts)

    def _now(self, token: int, call: Call, parameters: Mapping[str, Any]) -> None:
        self._answer(token, call, varlink.reply(parameters))

    def _answer(self, token: int, call: Call, message: bytes) -> None:
        assert self._clients is not None
        if not call.oneway:
            self._clients.send(token, message)
        self._clients.ready(token)

    def _say(self, peer: Peer, call: Call, facts: list[f.Fact]) -> None:
        """Write to the journal who has asked for what, before the entries of its results."""
        recycled = [fact.id for fact in facts if isinstance(fact, f.RecycleRequested)]
        what = ", ".join(f"{who.slot}.{who.generation}" for who in recycled[:16])
        more = " and more" if len(recycled) > 16 else ""
        about = f" ({what}{more})" if what else ""
        text = f"uid {peer.uid} (pid {peer.pid}) has called {call.name}{about}"
        self._report.entry(Journal(kind=Message.ASKED, message=text))

    def _info(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        told = {
            "vendor": "memunit",
            "product": f"memunit {self._at.instance}",
            "version": __version__,
            "url": "https://example.org/memunit",
            "interfaces": list(interfaces.DESCRIPTIONS),
        }
        self._now(token, call, told)

    def _description(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        name = parameters.pop("interface", None)
        _no_more(parameters)
        if not isinstance(name, str):
            raise invalid("interface")
        text = interfaces.DESCRIPTIONS.get(name)
        if text is None:
            raise Refused(f"{varlink.SERVICE}.InterfaceNotFound", {"interface": name[:255]})
        self._now(token, call, {"description": text})

    def _ping(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        self._now(token, call, {})

    def _level(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        level = shown.whole(parameters, "level")
        _no_more(parameters)
        if level is not None and level > 7:
            raise invalid("level")
        self._report.level = 7 if level is None else level
        self._now(token, call, {})

    def _environment(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        try:
            block = [os.fsencode(f"{name}={value}").decode("utf-8") for name, value in os.environ.items()]
        except UnicodeError:
            raise Refused(f"{interfaces.SYSTEMD}.InconsistentEnvironment") from None
        self._now(token, call, {"environment": block})

    def _describe(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        self._now(token, call, {"instance": self._view.instance(state)})

    def _workers(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        slot = shown.whole(parameters, "slot")
        _no_more(parameters)
        found = [each for each in shown.workers(state) if slot in (None, each["slot"])]
        self._now(token, call, {"workers": self._view.at_work(found)})

    def _follow(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        told = {
            "instance": self._view.instance(state),
            "workers": self._view.at_work(shown.workers(state)),
            "ends": self._view.ends(),
            "missed": 0,
        }
        if not call.more:
            self._now(token, call, told)
            return
        assert self._clients is not None
        assert self._followers is not None
        self._followers.add(token)
        self._clients.send(token, varlink.reply(told, continues=True))

    def _recycle(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> list[f.Fact]:
        found = shown.replaceable(state, shown.chosen(state, parameters))
        _no_more(parameters)
        if state.stopping:
            raise Refused(f"{interfaces.INSTANCE}.NoSuchWorker", {"reason": "the service is being stopped"})
        names = [one.id for one in found]

        def answer(after: State) -> Mapping[str, Any]:
            return {"workers": [shown.worker(after.workers[who]) for who in names if who in after.workers]}

        self._answers.append((token, call, answer))
        return [f.RecycleRequested(who) for who in names]

    def _scale(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> list[f.Fact]:
        count = shown.whole(parameters, "count")
        _no_more(parameters)
        if count is None:
            raise invalid("count")
        why = "the service is being stopped" if state.stopping else cannot_scale(state, count)
        if why:
            raise Refused(f"{interfaces.INSTANCE}.CantScale", {"reason": why})
        self._answers.append((token, call, lambda after: {"count": after.count}))
        return [f.ScaleTo(count)]

    def _set(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> list[f.Fact]:
        settings = parameters.pop("settings", None)
        _no_more(parameters)
        if not isinstance(settings, dict) or not settings:
            raise invalid("settings")
        if any(not isinstance(text, str) or len(text) > 100 for text in settings.values()):
            raise invalid("settings")
        try:
            if state.stopping:
                raise CantSet(next(iter(settings))[:60], "the service is being stopped")
            adjusted(state, settings)
        except CantSet as error:
            told = {"setting": error.setting, "reason": error.why}
            raise Refused(f"{interfaces.INSTANCE}.CantSet", told) from None
        self._answers.append((token, call, lambda after: {"settings": dict(after.settings)}))
        return [f.Adjust(settings)]

    def _reload(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        _no_more(parameters)
        self._waiting[token] = call
        self._reloads.append(-token)

    def _ask_stacks(self, token: int, call: Call, parameters: dict[str, Any], state: State) -> None:
        found = shown.chosen(state, parameters)
        _no_more(parameters)
        asked = [one for one in found if one.tells_stacks]
        if not asked:
            why = "none of these workers is a Python worker (asgi, wsgi, callable)"
            raise Refused(f"{interfaces.INSTANCE}.NoStacks", {"reason": why})
        self._waiting[token] = call
        self._stacks[token] = []
        for one in asked:
            name = {"slot": one.id.slot, "generation": one.id.generation, "pid": one.pid}
            why = self._dumps.begin((token, *one.id), one.pid)
            self._stacks[token].append({**name, "text": why, "complete": False})
        self._finish_stacks(token)

    def _dumped(self, dump: Dump) -> None:
        asker, slot, generation = dump.token
        for told in self._stacks.get(asker, ()):
            if (told["slot"], told["generation"]) == (slot, generation):
                told["text"], told["complete"] = dump.text, dump.complete

    def _finish_stacks(self, token: int) -> None:
        if token in self._stacks and not self._dumps.awaits(token):
            call = self._waiting.pop(token)
            self._now(token, call, {"stacks": self._stacks.pop(token)})

    # -- what comes of it ----------------------------------------------------------------------------------

    def ended(self, entry: Journal, now: float) -> None:
        """A worker has ended: this is the entry."""
        self._view.add_end(entry, now)

    def reloaded(self, tokens: Collection[int], text: str, *, ok: bool) -> None:
        """A reload has come to its end."""
        for token in (-each for each in tokens if each < 0):
            call = self._waiting.pop(token, None)
            if call is None:
                continue
            if ok:
                self._now(token, call, {"text": text} if call.interface == interfaces.INSTANCE else {})
            else:
                refused = Refused(f"{interfaces.INSTANCE}.ReloadFailed", {"reason": text[:4000]})
                self._answer(token, call, varlink.error(refused))

    def finished_pass(self, state: State, *, news: bool) -> None:
        """At the end of a pass: answer those who have changed something, and tell those who follow of `news`."""
        answers, self._answers = self._answers, []
        for token, call, answer in answers:
            self._now(token, call, answer(state))
        if self._followers is not None:
            self._followers.finished_pass(state, news=news)


def _no_more(parameters: Mapping[str, Any]) -> None:
    """Refuse the call if a parameter is left: the method has no such parameter."""
    if parameters:
        raise invalid(next(iter(parameters))[:255])


Method = Callable[[Interface, int, Call, dict[str, Any], State], list[f.Fact] | None]
# Of each interface, for each method, whether it changes anything, and who may call it. The environment may have
# secrets, and for stacks the master sends a signal to workers: neither is for a reader.
_METHODS: Mapping[str, Mapping[str, tuple[bool, Right, Method]]] = {
    varlink.SERVICE: {
        "GetInfo": (False, Right.READ, Interface._info),
        "GetInterfaceDescription": (False, Right.READ, Interface._description),
    },
    interfaces.SYSTEMD: {
        "Ping": (False, Right.READ, Interface._ping),
        "Reload": (True, Right.ALL, Interface._reload),
        "SetLogLevel": (True, Right.ALL, Interface._level),
        "GetEnvironment": (False, Right.ALL, Interface._environment),
    },
    interfaces.INSTANCE: {
        "Describe": (False, Right.READ, Interface._describe),
        "Workers": (False, Right.READ, Interface._workers),
        "Follow": (False, Right.READ, Interface._follow),
        "Recycle": (True, Right.ALL, Interface._recycle),
        "Scale": (True, Right.ALL, Interface._scale),
        "Reload": (True, Right.ALL, Interface._reload),
        "Set": (True, Right.ALL, Interface._set),
        "Stacks": (True, Right.ALL, Interface._ask_stacks),
    },
}
