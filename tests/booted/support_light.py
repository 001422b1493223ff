"""A worker in nothing but sockets, for tests that need many starts: it is up in a fraction of a second.

It keeps the contract by hand: sockets from descriptor 3 on, READY=1, STOPPING=1, SIGTERM. One thread a
connection, one request a connection.

/            "ok PID"
/leak?kb=N   keeps N KiB for ever, then "ok PID"
/spike?kb=N  keeps N KiB until the next /fall, and says "spike" on stderr
/fall        gives them back
/map?kb=N    writes a file of N KiB, reads it, and for ever maps the second half of it
/share?kb=N  keeps N KiB of shared memory for ever
/read?mib=N  reads N MiB of files in /usr
/hole?mib=N  reads N MiB of a file that is one hole: page cache as fast as the kernel makes it, on any disk
/daemon      starts a process in a session of its own, in a group below its own where there are groups, and says
             "daemon PID" on stderr
/frozen      says "frozen" on stderr and writes a file in /run/frozen, which takes for as long as that is frozen
/held?n=N    says "held" on stderr, waits until the FIFO held-N beside this file is open for writing, then "ok PID"
/grab?kb=N   keeps N KiB and never answers

At SIGTERM it says "told to stop" on stderr; with --deaf it ignores it. With --chatty it tells on stdout that it is
there. With --timed it tells how much it holds, and when (CLOCK_MONOTONIC), as it leaks, from 40M on; with --grouped,
how much its group holds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import select
import signal
import socket
import sys
import threading
import time

_kept: list[bytes] = []
_spikes: list[bytes] = []
_maps: list[mmap.mmap] = []
_never = threading.Event()
_FOLDER = __file__.rpartition("/")[0]


def tell(text: str) -> None:
    """One datagram to the master."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def answer(connection: socket.socket) -> None:
    """Read one request, do what it says, answer and close."""
    with connection:
        connection.setblocking(True)
        request = b""
        while b"\r\n\r\n" not in request:
            block = connection.recv(65536)
            if not block:
                return
            request += block
        path = request.split(b" ")[1].decode()
        number = float((re.findall(r"=([\d.]+)", path) or ["0"])[0])
        if path.startswith(("/leak", "/grab")):
            # Block by block, for what is too much for the machine would be refused in one piece.
            for start in range(0, int(number), 1024):
                _kept.append(b"\xa5" * int(1024 * min(1024, number - start)))
                if "--timed" in sys.argv or "--grouped" in sys.argv:
                    held = grouped() if "--grouped" in sys.argv else own()
                    if held >= 40 << 20:
                        print(f"grown {held} {time.monotonic():.6f}", file=sys.stderr, flush=True)
            if path.startswith("/grab"):
                _never.wait()
        elif path.startswith("/spike"):
            _spikes.append(b"\xa5" * int(number * 1024))
            print("spike", file=sys.stderr, flush=True)
        elif path.startswith("/fall"):
            _spikes.clear()
        elif path.startswith("/map"):
            _maps.append(mapped(int(number * 1024)))
        elif path.startswith("/hole"):
            hole(int(number) << 20)
        elif path.startswith("/share"):
            _maps.append(mmap.mmap(-1, int(number * 1024)))
            _maps[-1].write(b"\xa5" * int(number * 1024))
        elif path.startswith("/read"):
            read(int(number) << 20)
        elif path.startswith("/frozen"):
            print("frozen", file=sys.stderr, flush=True)
            os.close(os.open("/run/frozen/file", os.O_WRONLY | os.O_CREAT))
        elif path.startswith("/daemon"):
            daemon()
        elif path.startswith("/held"):
            print("held", file=sys.stderr, flush=True)
            os.close(os.open(f"{_FOLDER}/held-{number:.0f}", os.O_RDONLY))
        body = f"ok {os.getpid()}\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + body).encode())


def read(size: int) -> None:
    """Files, one after the other, until it is enough."""
    for folder, _, names in os.walk("/usr"):
        for name in names:
            try:
                descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            while size > 0 and (block := os.read(descriptor, 1 << 20)):
                size -= len(block)
            os.close(descriptor)
            if size <= 0:
                return


def hole(size: int) -> None:
    """A new sparse file on a disk, page by page: folios of megabytes would be charged with one event each."""
    descriptor = os.open("/var/tmp", os.O_RDWR | os.O_TMPFILE)
    os.ftruncate(descriptor, size)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for at in range(0, size, mmap.PAGESIZE):
        os.pread(descriptor, 1, at)
    os.close(descriptor)


def mapped(size: int) -> mmap.mmap:
    """The second half of a new file of so many bytes on a disk: /tmp may be memory."""
    descriptor = os.open("/var/tmp", os.O_RDWR | os.O_TMPFILE)
    os.write(descriptor, b"\xa5" * size)
    os.pread(descriptor, size, 0)
    half = mmap.mmap(descriptor, size // 2, prot=mmap.PROT_READ, offset=size // 2)
    sum(half[at] for at in range(0, size // 2, mmap.PAGESIZE))
    os.close(descriptor)
    return half


def own() -> int:
    """Bytes of memory that no file is behind."""
    fields = _read("/proc/self/statm").split()
    return (int(fields[1]) - int(fields[2])) * 4096


def grouped() -> int:
    """Bytes of this worker's group (cgroup v2) that no file is behind, as the master counts them (docs/memory.md)."""
    lines = _read(f"/sys/fs/cgroup{_read('/proc/self/cgroup').rpartition('0::')[2]}/memory.stat").splitlines()
    stat = {name: int(value) for name, value in map(str.split, lines)}
    kernel = stat.get("kernel", stat["kernel_stack"] + stat.get("slab", 0) + stat.get("pagetables", 0))
    return stat["anon"] + stat["shmem"] + kernel - stat.get("slab_reclaimable", 0)


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    text = os.read(descriptor, 1 << 14).decode().strip()
    os.close(descriptor)
    return text


def daemon() -> None:
    """By a double fork, as daemons do it."""
    child = os.fork()
    if child == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild:
            os._exit(0)
        from pathlib import Path

        with contextlib.suppress(OSError):
            own = Path("/proc/self/cgroup").read_text().strip().rpartition("0::")[2]
            below = Path(f"/sys/fs/cgroup{own}/below")
            below.mkdir()
            (below / "cgroup.procs").write_text("0")
        print(f"daemon {os.getpid()}", file=sys.stderr, flush=True)
        while True:
            signal.pause()
    os.waitpid(child, 0)


def main() -> None:
    """Serve until SIGTERM, then finish what was accepted."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    deaf = "--deaf" in sys.argv
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: None)
    listeners = {fd: socket.socket(fileno=fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))}
    poll = select.poll()
    poll.register(read, select.POLLIN)
    for fd, listener in listeners.items():
        listener.setblocking(False)
        poll.register(fd, select.POLLIN)
    threads: list[threading.Thread] = []
    if "--chatty" in sys.argv:
        print("the light worker is there", flush=True)
    tell("READY=1")
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if read in ready:
            print("told to stop", file=sys.stderr, flush=True)
            break
        for fd in ready:
            try:
                connection, _ = listeners[fd].accept()
            except BlockingIOError:
                continue  # a sibling was faster
            threads = [thread for thread in threads if thread.is_alive()]
            threads.append(threading.Thread(target=answer, args=(connection,)))
            threads[-1].start()
    tell("STOPPING=1")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
