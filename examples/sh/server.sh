#!/bin/sh
# A server in the manner of inetd as a memunit worker: s6-ipcserverd (Debian: s6) accepts on descriptor 3 and starts
# answer.sh for each connection. Despite its name, s6-ipcserverd can accept on a TCP socket too.
set -u

if [ "${LISTEN_FDS:-0}" -lt 1 ]; then
    echo "no socket was passed: start this under memunit or a systemd socket unit" >&2
    exit 78
fi
export WORKER=$$

# A sibling may accept the connection for which s6-ipcserverd woke up. Then s6-ipcserverd must not stay in accept(), where it
# would see no signal until the next connection. dd sets the flag O_NONBLOCK on the socket.
dd iflag=nonblock count=0 <&3 2>/dev/null

# A pipe without a name: 4 reads, 5 writes.
folder=$(mktemp -d) && mkfifo "$folder/pipe" || exit 1
exec 6<>"$folder/pipe" # so that neither of the next two lines waits for the other
exec 4<"$folder/pipe"
exec 5>"$folder/pipe" 6<&-
rm -r "$folder"

# A stop of the whole unit signals every process, and must not end the connections in work. So SIGTERM is ignored here, and
# answer.sh inherits that. s6-ipcserverd still sees SIGTERM, because it uses a signalfd.
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

# s6-ipcserverd writes one line when it accepts. Without systemd-notify, say ready = "exec" in the instance file.
ready() {
    read -r _ <&4 && { [ -z "${NOTIFY_SOCKET:-}" ] || systemd-notify --ready; }
}
ready || [ -n "$stopping" ] || exit 1

wait "$accepter" # or until the signal
[ -n "$stopping" ] || exit 1
# s6-ipcserverd does not wait for the programs that it has started, but they all hold the pipe open.
cat <&4
exit 0
