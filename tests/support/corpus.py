"""Raw bytes that clients send, each with the one verdict that it gets, whatever parser library is there.

Not a copy of anybody's collection: each is here for a rule of RFC 9112, for a way in which two readers have been seen
to differ, or for a bound of memunit's.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_SIZE = 64 * 1024


@dataclass(frozen=True)
class Case:
    """What is sent, and what comes of it.

    `seen` are the requests that the app gets whole, as "METHOD target body". `status` is that of a refusal, after
    which nothing more is read; 0 if there is none. `ends`: whether the server ends the connection.
    """

    name: str
    sent: bytes
    seen: tuple[str, ...] = ()
    status: int = 0
    ends: bool = False


def _ok(name: str, sent: bytes, *seen: str, ends: bool = False) -> Case:
    return Case(name, sent, seen, 0, ends)


def _no(name: str, sent: bytes, status: int = 400, *seen: str) -> Case:
    return Case(name, sent, seen, status, True)


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    """A request without a body."""
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def post(body: bytes, *lines: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request with whatever these lines say is its body."""
    return get(*lines, line=line) + body


def counted(body: bytes, *lines: bytes) -> bytes:
    """A request with a Content-Length."""
    return post(body, b"Content-Length: %d" % len(body), *lines)


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A request whose body is given with its chunks."""
    return post(body, b"Transfer-Encoding: chunked", *lines)


_GET = get()
_SMUGGLED = get(line=b"GET /admin HTTP/1.1")
_HELLO = b"5\r\nhello\r\n0\r\n\r\n"

_VALID = [
    _ok("get", _GET, "GET /"),
    _ok("lower case names, no blanks", get(b"x-a:1", b"X-B:2"), "GET /"),
    _ok("blanks around a value", get(b"X-A: \t 1 \t "), "GET /"),
    _ok("an empty value", get(b"X-A:", b"X-B: "), "GET /"),
    _ok("all characters of a name", get(b"!#$%&'*+-.^_`|~09azAZ: 1"), "GET /"),
    _ok("bytes above 127 in a value", get(b"X-A: \xe4\xff\x80"), "GET /"),
    _ok("all visible characters in a value", get(b"X-A: " + bytes(range(0x21, 0x7F))), "GET /"),
    _ok("a colon in a value", get(b"X-A: a:b: c"), "GET /"),
    _ok("a name twice", get(b"X-A: 1", b"X-A: 2"), "GET /"),
    _ok("a name with an underscore", get(b"Content_Length: 5"), "GET /"),
    _ok("a name that ends as another", get(b"X-Content-Length: 5", b"Transfer-Encoding2: chunked"), "GET /"),
    _ok("head", get(line=b"HEAD /h HTTP/1.1"), "HEAD /h"),
    _ok("options *", get(line=b"OPTIONS * HTTP/1.1"), "OPTIONS *"),
    _ok("delete", get(line=b"DELETE /x HTTP/1.1"), "DELETE /x"),
    _ok("trace", get(line=b"TRACE / HTTP/1.1"), "TRACE /"),
    _ok("query", get(line=b"QUERY / HTTP/1.1"), "QUERY /"),
    _ok("a method that nobody knows", get(line=b"FROBNICATE / HTTP/1.1"), "FROBNICATE /"),
    _ok("a method in lower case", get(line=b"get / HTTP/1.1"), "get /"),
    _ok("a query", get(line=b"GET /a?b=c&d=%20 HTTP/1.1"), "GET /a?b=c&d=%20"),
    _ok("question marks", get(line=b"GET /a?b?c HTTP/1.1"), "GET /a?b?c"),
    _ok("two slashes", get(line=b"GET //a//b HTTP/1.1"), "GET //a//b"),
    _ok("dots", get(line=b"GET /../a HTTP/1.1"), "GET /../a"),
    _ok("what a URL should not have", get(line=b'GET /"<>\\^`{|} HTTP/1.1'), 'GET /"<>\\^`{|}'),
    _ok("a percent sign alone", get(line=b"GET /%zz% HTTP/1.1"), "GET /%zz%"),
    _ok("an encoded line break", get(line=b"GET /%0d%0aHost:b HTTP/1.1"), "GET /%0d%0aHost:b"),
    _ok("the absolute form", get(line=b"GET http://a/b?c HTTP/1.1"), "GET /b?c"),
    _ok("the absolute form without a path", get(line=b"GET http://a HTTP/1.1"), "GET /"),
    _ok("the absolute form with a query alone", get(line=b"GET http://a?b HTTP/1.1"), "GET /?b"),
    _ok("the absolute form, in capitals", get(line=b"GET HTTPS://a/b HTTP/1.1"), "GET /b"),
    _ok("the absolute form of another host", get(line=b"GET http://b/c HTTP/1.1"), "GET /c"),
    _ok("a long target", get(line=b"GET /" + b"a" * 30000 + b" HTTP/1.1"), "GET /" + "a" * 30000),
    _ok("a host with a port", get(host=b"Host: a.example:8080"), "GET /"),
    _ok("a host that is an IPv6 address", get(host=b"Host: [::1]:80"), "GET /"),
    _ok("an empty host", get(host=b"Host:"), "GET /"),
    _ok("a host with an underscore", get(host=b"HOST: a_b"), "GET /"),
    _ok("an empty line before", b"\r\n" + _GET, "GET /"),
    _ok("empty lines before", b"\r\n" * 5 + _GET, "GET /"),
    _ok("an empty line between", counted(b"a=b") + b"\r\n" + _GET, "POST / a=b", "GET /"),
    _ok("nothing but empty lines", b"\r\n\r\n"),
    _ok("nothing", b""),
    _ok("half a request line", b"GET / HT"),
    _ok("half a head", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "),
    _ok("all of a head but its last byte", _GET[:-1]),
    _ok("1.0", get(line=b"GET / HTTP/1.0", host=b""), "GET /", ends=True),
    _ok("1.0 with a host", get(line=b"GET / HTTP/1.0"), "GET /", ends=True),
    _ok("1.0 and keep-alive", get(b"Connection: keep-alive", line=b"GET / HTTP/1.0"), "GET /", ends=True),
    _ok("1.0 with a body", post(b"hi", b"Content-Length: 2", line=b"POST / HTTP/1.0"), "POST / hi", ends=True),
    _ok("1.0 and Expect", post(b"hi", b"Content-Length: 2", b"Expect: 100-continue", line=b"POST / HTTP/1.0"),
        "POST / hi", ends=True),
    _ok("close", get(b"Connection: close"), "GET /", ends=True),
    _ok("close in a list", get(b"Connection: foo , CLOSE"), "GET /", ends=True),
    _ok("close in a second line", get(b"Connection: foo", b"Connection: close"), "GET /", ends=True),
    _ok("closed is not close", get(b"Connection: closed"), "GET /"),
    _ok("nothing is read after close", get(b"Connection: close") + _GET, "GET /", ends=True),
    _ok("proxy-connection means nothing", get(b"Proxy-Connection: close") + _GET, "GET /", "GET /"),
    _ok("keep-alive", get(b"Connection: keep-alive") + get(b"Connection: Keep-Alive"), "GET /", "GET /"),
    _ok("strange connection options", get(b"Connection: a b,, ;c") + _GET, "GET /", "GET /"),
    _ok("pipelined", _GET + get(line=b"GET /2 HTTP/1.1") + get(line=b"GET /3 HTTP/1.1"), "GET /", "GET /2", "GET /3"),
    _ok("pipelined bodies", counted(b"one") + chunked(_HELLO) + counted(b"2") + _GET,
        "POST / one", "POST / hello", "POST / 2", "GET /"),
]  # fmt: skip

_LENGTHS = [
    _ok("a body", counted(b"hello"), "POST / hello"),
    _ok("a body of nothing", counted(b""), "POST /"),
    _ok("no length is no body", get(line=b"POST / HTTP/1.1") + _GET, "POST /", "GET /"),
    _ok("a get with a body", get(b"Content-Length: 2") + b"hi" + _GET, "GET / hi", "GET /"),
    _ok("zeros before a length", post(b"hi", b"Content-Length: 0002") + _GET, "POST / hi", "GET /"),
    _ok("a request for a body", counted(_SMUGGLED) + _GET, "POST / " + _SMUGGLED.decode(), "GET /"),
    _ok("less than its length", post(b"hell", b"Content-Length: 5")),
    _ok("expect", counted(b"hello", b"Expect: 100-continue"), "POST / hello"),
    _ok("expect, in capitals", counted(b"hello", b"EXPECT: 100-Continue"), "POST / hello"),
    _ok("expect something else", counted(b"hello", b"Expect: wonders"), "POST / hello"),
    _ok("expect without a body", get(b"Expect: 100-continue") + _GET, "GET /", "GET /"),
    _ok("a body above the high-water mark", counted(b"x" * 200_000) + _GET, "POST / " + "x" * 200_000, "GET /"),
    _no("two lengths", post(b"hello", b"Content-Length: 5", b"Content-Length: 6")),
    _no("the same length twice", post(b"hello", b"Content-Length: 5", b"content-length: 5")),
    _no("a list of lengths", post(b"hello", b"Content-Length: 5, 5")),
    _no("an empty length", post(b"", b"Content-Length:")),
    _no("a negative length", post(b"", b"Content-Length: -1")),
    _no("a length with a plus", post(b"hello", b"Content-Length: +5")),
    _no("a length in hex", post(b"hello", b"Content-Length: 0x5")),
    _no("a length with a point", post(b"hello", b"Content-Length: 5.0")),
    _no("a length with a blank in it", post(b"hello", b"Content-Length: 5 0")),
    _no("a length with an underscore in it", post(b"hello", b"Content-Length: 1_0")),
    _no("a length in Arabic digits", post(b"hello", b"Content-Length: \xd9\xa5")),
    _no("a length of 19 digits", post(b"", b"Content-Length: 9999999999999999999")),
    _no("a length beyond 64 bits", post(b"", b"Content-Length: 18446744073709551621")),
    _no("a length that is a word", post(b"hello", b"Content-Length: five")),
    _no("a tab in a name of a length", post(b"hello", b"Content-Length\t: 5")),
]  # fmt: skip

_CHUNKS = [
    _ok("chunks", chunked(_HELLO), "POST / hello"),
    _ok("two chunks", chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "POST / hello world"),
    _ok("no chunk but the last", chunked(b"0\r\n\r\n") + _GET, "POST /", "GET /"),
    _ok("chunked, in capitals", post(_HELLO, b"TRANSFER-ENCODING: Chunked"), "POST / hello"),
    _ok("blanks around chunked", post(_HELLO, b"Transfer-Encoding: \t chunked \t"), "POST / hello"),
    _ok("a size in hex", chunked(b"A\r\n0123456789\r\nb\r\n0123456789x\r\n0\r\n\r\n"), "POST / 01234567890123456789x"),
    _ok("zeros before a size", chunked(b"00005\r\nhello\r\n000\r\n\r\n"), "POST / hello"),
    _ok("an extension", chunked(b"5;a\r\nhello\r\n0;b=c\r\n\r\n"), "POST / hello"),
    _ok("an extension with quotes", chunked(b'5;a="b c;d"\r\nhello\r\n0\r\n\r\n'), "POST / hello"),
    _ok("an extension of 4,000 bytes", chunked(b"5;" + b"a" * 4000 + b"\r\nhello\r\n0\r\n\r\n"), "POST / hello"),
    _ok("trailers", chunked(b"5\r\nhello\r\n0\r\nX-A: 1\r\nCookie: b\r\n\r\n") + _GET, "POST / hello", "GET /"),
    _no("a length for a trailer", chunked(b"0\r\nContent-Length: 50\r\n\r\n") + _GET),
    _no("a coding for a trailer", chunked(b"0\r\ntransfer-encoding: chunked\r\n\r\n") + _GET),
    _ok("a get with chunks", get(b"Transfer-Encoding: chunked") + _HELLO + _GET, "GET / hello", "GET /"),
    _ok("a request for a chunk", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_SMUGGLED), _SMUGGLED)) + _GET,
        "POST / " + _SMUGGLED.decode(), "GET /"),
    _ok("half a size", chunked(b"5")),
    _ok("half a chunk", chunked(b"5\r\nhel")),
    _ok("no end of a chunk", chunked(b"5\r\nhello")),
    _ok("half an end of a chunk", chunked(b"5\r\nhello\r")),
    _ok("no end of the trailers", chunked(b"5\r\nhello\r\n0\r\nX-A: 1\r\n")),
    _no("no size", chunked(b"\r\nhello\r\n0\r\n\r\n")),
    _no("a size that is none", chunked(b"x\r\nhello\r\n0\r\n\r\n")),
    _no("a size of 0x5", chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    _no("a negative size", chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    _no("a size with a plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    _no("a size with an underscore", chunked(b"1_0\r\nhellohellohello!\r\n0\r\n\r\n")),
    _no("a size of 17 digits", chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n")),
    _no("a size that wraps", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    _no("a blank before a size", chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    _no("a blank behind a size", chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    _no("a tab behind a size", chunked(b"5\t\r\nhello\r\n0\r\n\r\n")),
    _no("a blank before an extension", chunked(b"5 ;a\r\nhello\r\n0\r\n\r\n")),
    _no("something else behind a size", chunked(b"5 a\r\nhello\r\n0\r\n\r\n")),
    _no("LF behind a size", chunked(b"5\nhello\r\n0\r\n\r\n")),
    _no("CR behind a size", chunked(b"5\rhello\r\n0\r\n\r\n")),
    _no("LF in an extension", chunked(b"5;a\nhello\r\n0\r\n\r\n")),
    _no("CR in an extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    _no("NUL in an extension", chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n")),
    _no("LF behind a chunk", chunked(b"5\r\nhello\n0\r\n\r\n")),
    _no("nothing behind a chunk", chunked(b"5\r\nhello0\r\n\r\n")),
    _no("two bytes of anything behind a chunk", chunked(b"5\r\nhelloXX0\r\n\r\n")),
    _no("a chunk longer than its size", chunked(b"4\r\nhello\r\n0\r\n\r\n")),
    _no("LF behind the last size", chunked(b"0\n\n")),
    _no("LF at the end of the trailers", chunked(b"0\r\n\n")),
    _no("a trailer without a colon", chunked(b"0\r\nX-A\r\n\r\n")),
    _no("a trailer that is folded", chunked(b"0\r\nX-A: 1\r\n 2\r\n\r\n")),
    _no("a trailer with LF", chunked(b"0\r\nX-A: 1\nX-B: 2\r\n\r\n")),
    _no("a request in place of a trailer", chunked(b"0\r\n" + _SMUGGLED)),
    _no("an extension of 5,000 bytes", chunked(b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n")),
    _no("an extension without an end", chunked(b"5;" + b"a" * 5000)),
    _no("many extensions", chunked(b"".join(b"1;%b\r\nx\r\n" % (b"a" * 1000) for _ in range(20)) + b"0\r\n\r\n")),
    _no("trailers without an end", chunked(b"0\r\nX-A: " + b"a" * HEAD_SIZE), 431),
    _no("many trailers", chunked(b"0\r\n" + b"X-A: 1234567890\r\n" * 5000 + b"\r\n"), 431),
]  # fmt: skip

_CODINGS = [
    _no("a length and chunks", post(_HELLO, b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    _no("chunks and a length", post(_HELLO, b"Transfer-Encoding: chunked", b"Content-Length: 5")),
    _no("a length of 0 and chunks", post(_HELLO, b"Content-Length: 0", b"Transfer-Encoding: chunked")),
    _no("a length and an unknown coding", post(b"hello", b"Content-Length: 5", b"Transfer-Encoding: x")),
    _no("a length and an empty coding", post(b"hello", b"Content-Length: 5", b"Transfer-Encoding:")),
    _no("an empty coding", post(_HELLO, b"Transfer-Encoding:")),
    _no("identity", post(b"", b"Transfer-Encoding: identity")),
    _no("gzip", post(b"", b"Transfer-Encoding: gzip")),
    _no("gzip, chunked", post(_HELLO, b"Transfer-Encoding: gzip, chunked")),
    _no("chunked, gzip", post(_HELLO, b"Transfer-Encoding: chunked, gzip")),
    _no("chunked, chunked", post(_HELLO, b"Transfer-Encoding: chunked, chunked")),
    _no("chunked in two lines", post(_HELLO, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    _no("gzip and chunked in two lines", post(_HELLO, b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked")),
    _no("chunked and identity", post(_HELLO, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity")),
    _no("xchunked", post(_HELLO, b"Transfer-Encoding: xchunked")),
    _no("chunkedx", post(_HELLO, b"Transfer-Encoding: chunkedx")),
    _no("chunked with a parameter", post(_HELLO, b"Transfer-Encoding: chunked;q=1")),
    _no("chunked in quotes", post(_HELLO, b'Transfer-Encoding: "chunked"')),
    _no("chunked with a comma", post(_HELLO, b"Transfer-Encoding: chunked,")),
    _no("chunked behind a comma", post(_HELLO, b"Transfer-Encoding: ,chunked")),
    _no("chunked behind a control character", post(_HELLO, b"Transfer-Encoding: \x0bchunked")),
    _no("chunked in a folded line", post(_HELLO, b"Transfer-Encoding:", b" chunked")),
    _no("a blank before the colon of a coding", post(_HELLO, b"Transfer-Encoding : chunked")),
    _no("chunks for 1.0", post(_HELLO, b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")),
]  # fmt: skip

_HEADS = [
    _no("LF alone", b"GET / HTTP/1.1\nHost: a\n\n"),
    _no("LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    _no("LF behind a header", b"GET / HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n"),
    _no("LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    _no("LF before", b"\n" + _GET),
    _no("CR alone", b"GET / HTTP/1.1\rHost: a\r\r"),
    _no("CR in a value", get(b"X-A: 1\rX-B: 2")),
    _no("CR at the end of a value", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    _no("CR in a name", get(b"X\rA: 1")),
    _no("CR before", b"\r" + _GET),
    _no("NUL in a value", get(b"X-A: 1\x002")),
    _no("NUL in a name", get(b"X\0A: 1")),
    _no("NUL in the target", get(line=b"GET /\0 HTTP/1.1")),
    _no("a control character in a value", get(b"X-A: \x01")),
    _no("DEL in a value", get(b"X-A: \x7f")),
    _no("a folded line", get(b"X-A: 1", b" 2")),
    _no("a line folded with a tab", get(b"X-A: 1", b"\t2")),
    _no("a blank line that is not empty", get(b"X-A: 1", b" ")),
    _no("a fold behind the request line", b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
    _no("a blank before a colon", get(b"X-A : 1")),
    _no("a tab before a colon", get(b"X-A\t: 1")),
    _no("a blank in a name", get(b"X A: 1")),
    _no("no name", get(b": 1")),
    _no("no colon", get(b"X-A")),
    _no("a name in brackets", get(b"[X]: 1")),
    _no("a name with a byte above 127", get(b"X\xe4: 1")),
    _no("no host", get(host=b"")),
    _no("two hosts", get(b"Host: b")),
    _no("the same host twice", get(b"Host: a")),
    _no("two hosts for 1.0", get(b"Host: b", line=b"GET / HTTP/1.0")),
    _no("a host with a blank", get(host=b"Host: a b")),
    _no("a host with a slash", get(host=b"Host: a/b")),
    _no("a host with a user", get(host=b"Host: u@a")),
    _no("a host that is a list", get(host=b"Host: a, b")),
    _no("a host with a port that is none", get(host=b"Host: a:b")),
    _no("a host with a byte above 127", get(host=b"Host: \xe4")),
    _no("nothing but a method", b"GET\r\n\r\n"),
    _no("0.9", b"GET /\r\n\r\n"),
    _no("1.2", get(line=b"GET / HTTP/1.2"), 505),
    _no("0.9 by name", get(line=b"GET / HTTP/0.9"), 505),
    _no("2.0", get(line=b"GET / HTTP/2.0"), 505),
    _no("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505),
    _no("1.10", get(line=b"GET / HTTP/1.10")),
    _no("version without a minor", get(line=b"GET / HTTP/1")),
    _no("http in lower case", get(line=b"GET / http/1.1")),
    _no("another protocol", get(line=b"GET / RTSP/1.0")),
    _no("two blanks", get(line=b"GET  / HTTP/1.1")),
    _no("a tab in the request line", get(line=b"GET\t/ HTTP/1.1")),
    _no("a blank in the target", get(line=b"GET /a b HTTP/1.1")),
    _no("a blank before the request line", b" " + _GET),
    _no("a blank behind the request line", get(line=b"GET / HTTP/1.1 ")),
    _no("a colon in the method", get(line=b"GE:T / HTTP/1.1")),
    _no("a method with a byte above 127", get(line=b"G\xe4T / HTTP/1.1")),
    _no("a target without a slash", get(line=b"GET a HTTP/1.1")),
    _no("* for a get", get(line=b"GET * HTTP/1.1")),
    _no("a fragment", get(line=b"GET /a#b HTTP/1.1")),
    _no("a target above 127", get(line=b"GET /\xc3\xa4 HTTP/1.1")),
    _no("the absolute form without a host", get(line=b"GET http:///a HTTP/1.1")),
    _no("the absolute form with a user", get(line=b"GET http://u@a/ HTTP/1.1")),
    _no("the absolute form of another scheme", get(line=b"GET ftp://a/ HTTP/1.1")),
    _no("a connect", get(line=b"CONNECT a:80 HTTP/1.1") + _SMUGGLED, 501),
    _no("a connect to /", get(line=b"CONNECT / HTTP/1.1"), 501),
    _no("the hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    _no("a greeting of SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    _no("a header in place of a request", b"Host: a\r\n\r\n"),
    _no("an answer in place of a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    _no("a good one before a bad one", _GET + b"GET / HTTP/1.1\nHost: a\n\n", 400, "GET /"),
    _no("a good one after a bad one", b"GET /\r\n\r\n" + _GET),
    _no("a body longer than its length", counted(b"hello") + b"\0", 400, "POST / hello"),
]  # fmt: skip

_UPGRADES = [
    _ok("h2c with a body", post(b"name=value", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Content-Length: 10") + _GET, "POST / name=value", "GET /"),
    _ok("h2c with a request for a body", post(_SMUGGLED, b"Connection: Upgrade", b"Upgrade: h2c",
        b"Content-Length: %d" % len(_SMUGGLED)) + _GET, "POST / " + _SMUGGLED.decode(), "GET /"),
    _ok("h2c with chunks", chunked(_HELLO, b"Connection: Upgrade", b"Upgrade: h2c") + _GET, "POST / hello", "GET /"),
    _ok("h2c without a body", get(b"Connection: Upgrade", b"Upgrade: h2c") + _GET, "GET /", "GET /"),
    _ok("an unknown upgrade", counted(b"hello", b"Connection: upgrade", b"Upgrade: frob/7") + _GET,
        "POST / hello", "GET /"),
    _ok("an upgrade that the connection does not name", counted(b"hello", b"Upgrade: h2c") + _GET,
        "POST / hello", "GET /"),
    _ok("a connection that names no upgrade", counted(b"hello", b"Connection: upgrade") + _GET,
        "POST / hello", "GET /"),
    _ok("a WebSocket where there are none", get(b"Connection: Upgrade", b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + _GET, "GET /", "GET /"),
    _ok("a WebSocket by POST", counted(b"hello", b"Connection: Upgrade", b"Upgrade: websocket") + _GET,
        "POST / hello", "GET /"),
    _ok("a WebSocket for 1.0", get(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.0"),
        "GET /", ends=True),
    _ok("an upgrade and close", get(b"Connection: Upgrade, close", b"Upgrade: h2c") + _GET, "GET /", ends=True),
    _no("an upgrade with both framings", post(_HELLO, b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5",
        b"Transfer-Encoding: chunked")),
]  # fmt: skip


def _line_of(size: int) -> bytes:
    """A GET whose head has so many bytes."""
    filled = get(b"X-A: ")
    return get(b"X-A: " + b"a" * (size - len(filled)))


_BOUNDS = [
    _ok("a head of 64 KiB", _line_of(HEAD_SIZE) + _GET, "GET /", "GET /"),
    _no("a head of one byte more", _line_of(HEAD_SIZE + 1) + _GET, 431),
    _no("a head without an end", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * HEAD_SIZE, 431),
    _no("lines without an end", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: 1\r\n" * 9000, 431),
    _no("a request line without an end", b"GET /" + b"a" * (HEAD_SIZE + 10), 431),
    _no("a large head that is wrong at its beginning", b"GET /\r\n" + b"X-A: 1\r\n" * 9000),
    _no("a large head that is wrong in the middle", _line_of(30000)[:-4] + b"\0" + b"a" * 60000),
    _ok("a thousand headers", get(*(b"X-%d: 1" % number for number in range(1000))), "GET /"),
]

CASES = (*_VALID, *_LENGTHS, *_CHUNKS, *_CODINGS, *_HEADS, *_UPGRADES, *_BOUNDS)
