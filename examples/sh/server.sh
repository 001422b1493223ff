#!/bin/sh
# A server in the manner of inetd as a memunit worker: s6-ipcserverd (Debian: s6) accepts on descriptor 3 and starts
# answer.sh for each connection. Despite its name it takes a TCP socket as well.
set -u

if [ "${LISTEN_FDS:-0}" -lt 1 ]; then
    echo "no socket was passed: start this under memunit or a systemd socket unit" >&2
    exit 78
fi
export WORKER=$$

# An accepter that wakes for a connection which a sibling takes must not stay in accept(): there it hears no signal
# until the next one comes. dd is what sets a flag on a socket from sh.
dd iflag=nonblock count=0 <&3 2>/dev/null

# A pipe without a name: 4 reads, 5 writes.
folder=$(mktemp -d) && mkfifo "$folder/pipe" || exit 1
exec 6<>"$folder/pipe" # neither of the next two has to wait for the other
exec 4<"$folder/pipe"
exec 5>"$folder/pipe" 6<&-
rm -r "$folder"

# The accepter's SIGTERM handler needs no disposition (it is a signalfd), and what it starts inherits the one from
# here: a stop of the whole unit, which signals every process, must not end the connections in flight.
(
    trap '' TERM
    exec s6-ipcserverd -1 -v 0 -P -c 100 ./answer.sh <&3 >&5 3<&- 4<&-
) &
accepter=$!
stopping=
# shellcheck disable=SC2317  # called by the trap
stop() {
    trap '' TERM # systemd and the master may both ask
    stopping=yes
    kill -TERM "$accepter"
}
trap stop TERM
exec 3<&- 5>&-

# Its one line says that it accepts. Where there is no systemd-notify: ready = "exec" in the instance file.
ready() {
    read -r _ <&4 && { [ -z "${NOTIFY_SOCKET:-}" ] || systemd-notify --ready; }
}
ready || [ -n "$stopping" ] || exit 1

wait "$accepter" # or until the signal
[ -n "$stopping" ] || exit 1
# The accepter does not wait for what it has started, but all of that holds the pipe open.
cat <&4
exit 0
