"""`memunit check` of an instance, with what this systemd says of its unit and of the slices that hold it."""

from __future__ import annotations

from tests.booted.support import Instance, light, run

LIMIT = '[memory]\nlimit = "100M"\n'


def test_check_knows_the_bounds_of_the_unit_and_of_its_slices_and_not_the_shells() -> None:
    with Instance(
        "bounded", light(more=LIMIT), service="MemoryHigh=150M\nSlice=outer-inner.slice\n"
    ) as instance:
        assert instance.show("Slice") == {"Slice": "outer-inner.slice"}
        said = run("memunit", "check", "bounded", check=False)
        assert said.returncode == 78
        assert "more than the 150M of MemoryHigh= of memunit@bounded.service; " in said.stderr
        run("systemctl", "set-property", "--runtime", "outer.slice", "MemoryMax=140M")
        try:
            said = run("memunit", "check", "bounded", check=False)
        finally:
            run("systemctl", "set-property", "--runtime", "outer.slice", "MemoryMax=infinity")
        assert "more than the 140M of MemoryMax= of outer.slice; " in said.stderr


def test_check_in_a_shell_with_less_memory_is_the_same() -> None:
    with Instance("roomy", light(more=LIMIT)):
        words = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "-p", "MemoryHigh=150M")
        said = run(*words, "memunit", "check", "roomy")
        assert " of the machine" in said.stdout
