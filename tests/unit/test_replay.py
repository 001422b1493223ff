"""What was recorded is decided again, and shown; what is not the same, or not right, is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from memunit.cli.main import main
from memunit.core import facts as f
from memunit.core.flight import FlightCodec, FlightError, Head
from memunit.core.model import Phase, Policy
from memunit.core.replay import Replay, rows
from memunit.core.state import State
from memunit.records import replace
from tests.support.sim import M, Sim

CODEC = FlightCodec()


class Recorded(Sim):
    """A simulation that is recorded as the master does it."""

    def __init__(self, policy: Policy) -> None:
        self.lines: list[str] = []
        super().__init__(policy)

    def decide(self, facts: list[f.Fact]) -> None:
        if not self.lines:
            self.lines.append(self.head(self.state))
        self.lines.append(CODEC.facts(self.now, facts))
        super().decide(facts)
        did = CODEC.did(self.actions)
        if did:
            self.lines.append(did)

    def head(self, state: State, *, follows: bool = False) -> str:
        """A first line."""
        return CODEC.head(
            Head(
                version="1.2.3",
                instance="shop",
                boot="b",
                monotonic=self.now,
                realtime=1e9 + self.now,
                follows=follows,
                state=state,
            )
        )


def busy() -> Recorded:
    """A recycle, a crash, a reload, a stop."""
    sim = Recorded(Policy(count=2, limit=100 * M, patience=1.0))
    sim.up()
    sim.advance(20.0)
    first = sim.workers()[0].id
    sim.step(f.StatusText(first, 'caf\u00e9 "\u2028'), f.Ping(first))
    sim.sample(first, 120 * M)
    sim.now += 1.0
    sim.sample(first, 120 * M)
    sim.advance(2.0)
    sim.ready()
    sim.exit(first)
    sim.exit(sim.workers(Phase.RUNNING)[1].id, "dumped", 11)
    sim.reload(replace(sim.state.policy, count=2), 3)
    sim.advance(40.0)
    sim.step(f.StopRequested())
    return sim


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    path = tmp_path / "flight.jsonl"
    path.write_text("".join(busy().lines))
    return path


def replayed(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = main(["replay", *more, str(path)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_same_is_decided_again(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = replayed(flight, capsys)
    assert err == ""
    assert "!!" not in out
    assert code == 0
    assert out.splitlines()[0].split() == ["TIME", "FACT", "DECISION", "WHY"]
    assert "the same as then; each of " in out.splitlines()[-1]
    (start,) = [line for line in out.splitlines() if "start worker 0.2" in line]
    assert "is to be replaced" in start
    (crash,) = [line for line in out.splitlines() if "worker 1.1 killed by SIGSEGV" in line]
    assert "start worker 1.2" in crash
    assert [line for line in out.splitlines() if "SIGTERM to worker 0.1" in line]


def test_all_passes_are_shown_to_who_asks(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = replayed(flight, capsys)[1]
    many = replayed(flight, capsys, "--all")[1]
    assert "WATCHDOG=1" not in few
    assert "worker 0.1 WATCHDOG=1" in many
    assert "worker 0.1 has 120M (uss)" in many
    summary = replayed(flight, capsys, "--summary")[1]
    assert summary == many.splitlines()[-1] + "\n"


def test_each_fact_and_each_action_has_words(tmp_path: Path) -> None:
    sim = busy()
    replay = Replay(CODEC.parse_head(sim.lines[0]).state, CODEC)
    text = " ".join(
        str(row)
        for done in replay.run(CODEC.parse_steps(sim.lines[1:]))
        for row in rows(done, everything=True)
    )
    for word in ("Spawned", "Sampled", "Exited", "Notify", "Gate(", "Reload("):
        assert word not in text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda line: line.replace('"exited",0', '"exited",1'), "the recorded master decided something else"),
        (
            lambda line: line.replace('["Ready",[1,1]]', '["Ready",[0,1]]'),
            "the recorded master decided something else",
        ),
        (
            lambda line: '"00000000"\n' if line.startswith('"') else line,
            "the recorded master decided something else",
        ),
    ],
    ids=["end", "ready", "mark"],
)
def test_what_differs_is_told(
    flight: Path, capsys: pytest.CaptureFixture[str], change: Callable[[str], str], complaint: str
) -> None:
    lines = flight.read_text().splitlines(keepends=True)
    changed = [lines[0], *map(change, lines[1:])]
    assert changed != lines
    flight.write_text("".join(changed))
    code, out, _ = replayed(flight, capsys)
    assert code == 70
    assert complaint in out
    assert "of it wrong" in out.splitlines()[-1]


def test_a_broken_invariant_is_told(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state in which two workers serve in one slot, as no pass should have left it."""
    lines = flight.read_text().splitlines(keepends=True)
    head = json.loads(lines[0])
    one = {"id": [0, 1], "phase": "running", "ready_at": 900.0, "born": 900.0, "since": 900.0, "revision": 1}
    clock = dict.fromkeys(TIMES, "inf")
    one |= clock | {"limit": None}
    head["state"]["workers"] = [[[0, 1], one], [[0, 2], one | {"id": [0, 2]}]]
    head["state"]["slots"] = [{"index": 0, "next_generation": 3}, {"index": 1}]
    flight.write_text(json.dumps(head) + '\n[1001.0,[["Ready",[0,1]],["MemoryPressure"]]]\n')
    code, out, err = replayed(flight, capsys)
    assert err == ""
    assert code == 70
    assert "the invariant one-of-each-in-a-slot is broken: two are running in one slot" in out


TIMES = ("deadline", "yields_at")


def test_a_last_line_that_is_cut_off_is_passed_over(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = flight.read_text()
    for cut in (1, 3, len(text.splitlines()[-1]) + 5):
        flight.write_text(text[:-cut])
        code, out, err = replayed(flight, capsys)
        assert (code, err) == (0, ""), out


def test_a_pass_that_never_came_back_is_the_last(flight: Path) -> None:
    lines = flight.read_text().splitlines(keepends=True)
    steps = list(CODEC.parse_steps([*lines[1:], '[2000.0,[["DumpState"]]]\n']))
    assert steps[-1].did is None
    assert {each.did is None for each in steps[:-1]} == {False}
    assert "" in {each.did for each in steps}


def test_what_step_raises_is_shown(
    flight: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr("memunit.core.replay.step", fails)
    code, out, _ = replayed(flight, capsys)
    assert code == 70
    assert "ZeroDivisionError: here" in out


def test_two_halves_are_put_in_order_and_join(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = busy()
    half = next(place for place, line in enumerate(sim.lines) if '"Reload"' in line)
    replay = Replay(CODEC.parse_head(sim.lines[0]).state, CODEC)
    for _ in replay.run(CODEC.parse_steps(sim.lines[1:half])):
        pass
    now = json.loads(sim.lines[half])[0]
    sim.now = now
    (tmp_path / "flight.before.jsonl").write_text("".join(sim.lines[:half]))
    later = [sim.head(replay.state, follows=True), *sim.lines[half:]]
    (tmp_path / "flight.jsonl").write_text("".join(later))
    code, out, err = replayed(tmp_path, capsys)
    assert (code, err) == (0, ""), out
    assert out.index("start worker 0.1") < out.index("reload")
    other = json.loads(later[0])
    other["state"]["seed"] = 8
    (tmp_path / "flight.jsonl").write_text("".join([json.dumps(other) + "\n", *later[1:]]))
    code, out, err = replayed(tmp_path, capsys)
    assert code == 70
    assert "does not begin with the state at the end of" in out


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["{}\n"], "is no flight file"),
        (["[]\n"], "is no flight file"),
        ([""], "is no flight file"),
        (["PNG\udcff\n"], "is no flight file"),
        (['{"flight":1,"memunit":"9.9","schema":"x"}\n'], "by another memunit, 9.9"),
        (['{"flight":2}\n'], "by another memunit, an unknown one"),
        (['{"flight":1,"schema":"SCHEMA","memunit":"1"}\n'], "damaged in line 1"),
        (["HEAD", "[1.0]\n"], "damaged in line 2: a pass has a time"),
        (["HEAD", "[true,[]]\n"], "damaged in line 2: a time is a number"),
        (["HEAD", "[1001.0,[]]\n", '[1002.0,[["Ping",[0]]]]\n'], r"damaged in line 3: Ping.id"),
        (["HEAD", '"12345678"\n'], "damaged in line 2: what a pass wanted"),
        (["HEAD", "\n"], "damaged in line 2: no JSON"),
    ],
)
def test_what_is_no_flight_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], complaint: str
) -> None:
    path = tmp_path / "x"
    text = "".join(lines).replace("HEAD", busy().lines[0]).replace("SCHEMA", CODEC.schema)
    path.write_text(text, errors="surrogateescape")
    code, _, err = replayed(path, capsys)
    assert code == 65
    assert err.startswith(f"memunit: {path} ")
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed(tmp_path / "none", capsys) == (
        66,
        "",
        f"memunit: {tmp_path}/none: No such file or directory\n",
    )
    assert replayed(tmp_path, capsys)[0] == 66
    assert main(["replay", "no-such-instance"]) == 66
    assert "/run/memunit/no-such-instance" in capsys.readouterr().err


def test_a_step_before_its_head_is_no_flight() -> None:
    with pytest.raises(FlightError, match="no flight file"):
        CODEC.parse_head("[1.0,[]]\n")
