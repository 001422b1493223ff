"""A real nginx in front of a Unix socket, as an administrator would set it up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.wait import DEADLINE

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
# One that inherits its sockets crashes without a master process. What `user` says is ignored for others than root.
# /cut/ is taken off the path here, /shop/ is left on it; and it is where TLS would have ended.
_CONFIGURATION = """
daemon off;
user root;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
http {{
    log_format told escape=json
        '{{"method": "$request_method", "status": $status, "upstream": "$upstream_status"}}';
    access_log {directory}/access.log told;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{inside}}}
"""

_INSIDE = """\
    upstream app {{
        server {target};
        keepalive 8;
        keepalive_timeout {idle};
    }}
    map $http_upgrade $connection_header {{
        default upgrade;
        '' '';
    }}
    proxy_http_version 1.1;
    proxy_ignore_client_abort on;
    proxy_set_header Connection $connection_header;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen {address};
        location / {{ proxy_pass http://app; }}
        location {protected} {{ return 403; }}
        location /unbuffered {{
            proxy_pass http://app;
            proxy_request_buffering off;
        }}
        location /cut/ {{
            proxy_pass http://app/;
            proxy_set_header Connection $connection_header;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
"""


@dataclass(frozen=True)
class Passed:
    """One line of the access log. `upstream` has an answer or error a try, the last one last."""

    method: str
    status: int
    upstream: tuple[str, ...]


def program() -> str | None:
    """Where nginx is, if it is installed."""
    return shutil.which("nginx", path=_PATH)


class Nginx:
    """One that passes everything but what is `protected` on to `target`, a Unix socket or "host:port"."""

    def __init__(
        self,
        directory: Path,
        target: str,
        *,
        idle: str = "4s",
        inside: str | None = None,
        protected: str = "/protected",
    ) -> None:
        """`inside` is another text for the http block, in which ADDRESS is where it listens."""
        found = program()
        assert found is not None
        directory.mkdir()
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            host, port = listener.getsockname()
            self.target = f"{host}:{port}"
            file = directory / "nginx.conf"
            if inside is None:
                upstream = f"unix:{target}" if target.startswith("/") else target
                inside = _INSIDE.format(idle=idle, target=upstream, address=self.target, protected=protected)
            else:
                inside = inside.replace("ADDRESS", self.target)
            file.write_text(_CONFIGURATION.format(directory=directory, inside=inside))
            # As it inherits sockets from the nginx that it replaces: nobody else can take the port meanwhile.
            self._process = subprocess.Popen(
                [found, "-p", directory, "-c", file, "-e", directory / "error.log"],
                env={"NGINX": f"{listener.fileno()};"},
                pass_fds=(listener.fileno(),),
            )

    def passed(self) -> list[Passed]:
        """The access log so far: it is written as each request ends."""
        whole, _, _ = (self._directory / "access.log").read_text().rpartition("\n")
        return [_passed(json.loads(line)) for line in whole.splitlines()]

    @property
    def errors(self) -> str:
        """The error log so far."""
        return (self._directory / "error.log").read_text()

    def finish(self) -> None:
        """Have it end in order. Its access log is whole then: a line may be written after its answer was."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(2 * DEADLINE)

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _passed(line: dict[str, Any]) -> Passed:
    return Passed(line["method"], line["status"], tuple(line["upstream"].split(", ")))
