"""nginx and php-fpm as a command: SIGQUIT is their graceful stop, and the Unix socket stays (FIELD C19)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.support.fastcgi import Request
from tests.support.harness import Unit

pytest_plugins = ["tests.support.units"]

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
FPM = next(
    (found for n in ("8.2", "8.3", "8.4", "") if (found := shutil.which(f"php-fpm{n}", path=PATH))), None
)
NGINX = shutil.which("nginx", path=PATH)
POOL = """
[global]
error_log = /dev/stderr
daemonize = no
process_control_timeout = 300s
[www]
listen = {name}
pm = static
pm.max_children = 2
"""
# A signal cuts fgets() short, and is not the end of the file.
SCRIPT = """<?php
if (isset($_GET['on'])) {
    $file = fopen($_GET['on'], 'r');
    do { $line = fgets($file); } while ($line === false && !feof($file));
    echo 'waited ', $line;
} else {
    echo 'ok';
}
"""
SERVER = """
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen {address}; location / {{ proxy_pass http://{backend}; }} }}
}}
"""


@pytest.mark.skipif(FPM is None, reason="there is no php-fpm; tests/run unpacks one")
def test_php_fpm_finishes_its_requests_and_leaves_the_socket(unit: Unit, tmp_path: Path) -> None:
    assert FPM is not None
    path = str(tmp_path / "shop.sock")
    script, hold = tmp_path / "shop.php", tmp_path / "hold"
    script.write_text(SCRIPT)
    os.mkfifo(hold)
    # It is a name for descriptor 3, and nothing else: as the path of the socket, php-fpm would remove it at its end.
    (tmp_path / "pool.conf").write_text(POOL.format(name="127.0.0.1:9000"))
    root = ["-R"] if os.geteuid() == 0 else []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        unit.sockets = (("memunit@app.socket", listener), unit.sockets[0])
        unit.write(
            app={
                "command": [FPM, "-F", "-n", *root, "-y", str(tmp_path / "pool.conf")],
                "environment": {
                    "FPM_SOCKETS": "127.0.0.1:9000=3",
                    "LD_LIBRARY_PATH": os.environ.get("MEMUNIT_PHP_LIBRARIES", ""),
                },
            },
            workers={"count": 1},
            stop={"signal": "SIGQUIT"},
        )
        # It says READY=1 by itself.
        service = unit.serve().ready()
        (old,) = service.serving().values()
        with Request(path, str(script), f"on={hold}") as waiting:
            # Opening a FIFO for writing waits until the script has it open.
            writer = os.open(hold, os.O_WRONLY)
            service.send(signal.SIGHUP)
            service.expect("Reloaded: 1 worker", source="output")
            with Request(path, str(script)) as other:
                assert other.read() == "ok"
            assert service.entries("ended", pid=old) == []
            os.write(writer, b"long\n")
            os.close(writer)
            assert waiting.read() == "waited long\n"
        assert service.entry("ended", pid=old).cause == "reload"
        with Request(path, str(script)) as other:
            assert other.read() == "ok"
        assert service.stop() == 0
        assert Path(path).is_socket()


@pytest.mark.skipif(NGINX is None, reason="there is no nginx; tests/run unpacks one")
def test_nginx_finishes_its_requests(unit: Unit, tmp_path: Path) -> None:
    assert NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as backend:
        where = "{}:{}".format(*backend.getsockname())
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(SERVER.format(directory=tmp_path, address=unit.target, backend=where))
        unit.write(
            app={
                "command": [NGINX, "-p", str(tmp_path), "-c", str(configuration)],
                "environment": {"NGINX": "3;"},
                "ready": "exec",
            },
            workers={"count": 1},
            stop={"signal": "SIGQUIT"},
        )
        service = unit.serve().ready()
        (old,) = service.serving().values()
        with unit.client() as client:
            client.ask("/long")
            asked, _ = backend.accept()
            mark = service.mark
            service.send(signal.SIGHUP)
            service.expect("Reloaded: 1 worker", source="output", after=mark)
            service.pass_by()
            assert service.entries("ended", pid=old) == []
            with asked:
                asked.recv(65536)
                asked.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nlong")
            assert client.read().body == b"long"
        assert service.entry("ended", pid=old).cause == "reload"
        assert service.stop(signal.SIGQUIT) == 0
