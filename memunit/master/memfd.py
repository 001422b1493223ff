"""memfd_create(2): a file of memory that processes share by its descriptor."""

import fcntl
import os


def sealed(name: str, header: bytes, size: int) -> int:
    """The descriptor of one of `size` bytes, the first of which are `header`, and which nobody can change the size of.

    Who maps a file that another process truncates gets SIGBUS. Raises OSError without memory or descriptors.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, header, 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd
