"""Names of instances: the part between @ and the dot of a unit."""

import re

# What systemd takes as an instance's name (systemd.unit(5)), less a leading dot or dash, and a colon, which parts the
# names in LISTEN_FDNAMES. No longer than leaves room for the paths of the sockets in /run/private/memunit/NAME
# (unix(7): 107 bytes).
_NAME = re.compile(r"[A-Za-z0-9_\\@][A-Za-z0-9_.\\@-]{0,79}")


def is_instance(name: str) -> bool:
    """Whether an instance can be called so."""
    return _NAME.fullmatch(name) is not None
