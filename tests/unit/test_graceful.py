"""What check and serve say of nginx and php-fpm as a command (FIELD C19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from memunit.cli.main import main
from memunit.core.graceful import program_of, unlinks, warnings_of_signal


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["nginx"], "nginx"),
        (["/usr/sbin/php-fpm8.2", "-F"], "php-fpm"),
        (["php-fpm"], "php-fpm"),
        (["env", "NGINX=3;", "/usr/sbin/nginx", "-c", "x"], "nginx"),
        (["sh", "-c", "NGINX='3;' exec nginx -c x"], "nginx"),
        (["php", "-S", "x"], None),
        (["node", "nginx-like.js"], None),
    ],
)
def test_the_program_is_known_by_its_words(command: list[str], name: str | None) -> None:
    assert program_of(command) == name
    assert bool(warnings_of_signal(command, "SIGTERM")) is (name is not None)
    assert warnings_of_signal(command, "SIGQUIT") == []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/run/shop.sock=3", "/run/shop.sock"),
        ("127.0.0.1:9000=3,/run/shop.sock=4", "/run/shop.sock"),
        ("127.0.0.1:9000=3", None),
        ("", None),
    ],
)
def test_a_socket_that_would_be_removed(value: str, path: str | None) -> None:
    assert unlinks(["php-fpm8.2", "-F"], {"FPM_SOCKETS": value}) == path
    assert unlinks(["node", "x.js"], {"FPM_SOCKETS": value}) is None


def test_it_is_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "php-fpm8.2"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "shop.toml"
    text = f'[app]\ncommand = ["{program}", "-F"]\n'
    text += 'environment = { FPM_SOCKETS = "NAME=3" }\n[stop]\nsignal = "QUIT"\n'
    file.write_text(text.replace("NAME", "/run/memunit/shop.sock"))
    assert main(["check", str(file)]) == 78
    said = capsys.readouterr()
    assert "app.environment: FPM_SOCKETS names /run/memunit/shop.sock; php-fpm removes" in said.out + said.err
    file.write_text(text.replace("NAME", "127.0.0.1:9000"))
    assert main(["check", str(file)]) == 0
    file.write_text(text.replace("NAME", "127.0.0.1:9000").replace("QUIT", "TERM"))
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr()
    assert "stop.signal: php-fpm ends at once at SIGTERM" in said.out + said.err
