"""The signals at which a program finishes its work and ends."""

# What can't be caught, or says that something else has happened, stops nobody gracefully.
STOP_SIGNALS = ("SIGTERM", "SIGQUIT", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")


def signal_name(text: str) -> str | None:
    """ "SIGQUIT" of "quit", as KillSignal= of systemd.kill(5) is written, with or without SIG; None for others."""
    word = text.strip().upper()
    name = word if word.startswith("SIG") else f"SIG{word}"
    return name if name in STOP_SIGNALS else None
