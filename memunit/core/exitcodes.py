"""Exit codes, named as in sysexits(3); systemctl(1) shows them by these names too."""

OK = 0
EX_USAGE = 64  # the command line itself: an unknown command or flag
EX_DATAERR = 65  # a file that is not what it should be
EX_NOINPUT = 66  # a file that can't be read
EX_UNAVAILABLE = 69  # nothing ever became ready
EX_SOFTWARE = 70  # memunit is at fault
EX_OSERR = 71  # the system refused: a port in use and the like
EX_IOERR = 74  # what was asked for could not be printed
EX_NOPERM = 77  # may not bind
EX_CONFIG = 78  # the configuration can't be used
INTERRUPTED = 130  # ended by Ctrl-C, as a shell puts it: 128 + SIGINT
