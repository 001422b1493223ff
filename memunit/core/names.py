"""Names of instances: the part between @ and the dot of a unit."""

# What systemd takes as an instance's name (systemd.unit(5)), less a leading dot or dash, and a colon, which parts the
# names in LISTEN_FDNAMES. No longer than leaves room for the paths of the sockets in /run/private/memunit/NAME
# (unix(7): 107 bytes).
_LONGEST = 80
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_\\@")
_KNOWN = _FIRST | {".", "-"}


def is_instance(name: str) -> bool:
    """Whether an instance can be called so."""
    return 0 < len(name) <= _LONGEST and name[0] in _FIRST and _KNOWN.issuperset(name)


def instance_of(text: str) -> str:
    """ "shop" for "memunit@shop.service" and the like, which systemctl(1) takes; another text as it is."""
    name = text.removeprefix("memunit@")
    if name in ("", text):
        return text
    return next(
        (name[: -len(end)] for end in (".service", ".socket") if name.endswith(end) and name != end), name
    )


def bad_instance(name: str) -> tuple[str, str]:
    """Why no instance can be called so, and the remedy."""
    shown = name if len(name) <= 40 else name[:37] + "..."
    text = f'"{shown}" can\'t be the name of an instance'
    remedy = 'say the part between @ and the dot of its unit, as "app" of memunit@app.service'
    foreign = next((each for each in name if each not in _KNOWN), "")
    if not name:
        return f"{text}: it is empty", remedy
    if foreign:
        known = "letters of ASCII, digits and _ . - @ \\ may be"
        return f"{text}: {_called(foreign)} is in it", f"{known}; systemd-escape(1) escapes others"
    if len(name) > _LONGEST:
        return (
            f"{text}: it has {len(name)} characters",
            f"{_LONGEST} are the most, for the paths of its sockets",
        )
    return f'{text}: it begins with "{name[0]}"', "begin with a letter or a digit"


def _called(character: str) -> str:
    known = {" ": "a space", "\n": "a line break", "\t": "a tab", "\0": "a NUL character"}
    return known.get(character, f'"{character}"' if character.isprintable() else f"U+{ord(character):04X}")
