#!/bin/sh
# One connection, one request. GET / answers "ok PID" with the worker's pid. /keep?kb=N holds N KiB until the client
# closes the connection, or until it sends another line; then it gets the answer.
# This program reads only the head: a request with a body would get a reset.
set -u
end=$(printf '\r')

IFS= read -r request || exit 0
line=$request
while [ "$line" != "$end" ]; do
    IFS= read -r line || exit 0
done

case $request in
    "GET /keep?kb="[0-9]*" HTTP/1.1$end")
        kb=${request#*kb=}
        # shellcheck disable=SC2034  # only holds memory
        kept=$(head -c "${kb%% *}k" /dev/zero | tr '\0' x)
        IFS= read -r line || exit 0
        ;;
esac
body="ok $WORKER"
printf 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s\n' $((${#body} + 1)) "$body"
