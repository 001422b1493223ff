"""Where to listen: the notation of ListenStream=, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.core.address import Address, AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "address", "again"),
    [
        ("127.0.0.1:8010", Address(kind="tcp", host="127.0.0.1", port=8010), "127.0.0.1:8010"),
        ("0.0.0.0:80", Address(kind="tcp", host="0.0.0.0", port=80), "0.0.0.0:80"),
        ("[::1]:80", Address(kind="tcp", host="::1", port=80), "[::1]:80"),
        ("[0:0::0001]:80", Address(kind="tcp", host="::1", port=80), "[::1]:80"),
        ("8000", Address(kind="tcp", host="::", port=8000), "[::]:8000"),
        ("127.0.0.1:0", Address(kind="tcp", host="127.0.0.1", port=0), "127.0.0.1:0"),
        ("65535", Address(kind="tcp", host="::", port=65535), "[::]:65535"),
        ("/run/x.sock", Address(kind="unix", path="/run/x.sock"), "/run/x.sock"),
        ("localhost:9001", Address(kind="tcp", host="localhost", port=9001), "localhost:9001"),
        ("LocalHost.:9001", Address(kind="tcp", host="localhost", port=9001), "localhost:9001"),
        ("unix:/run/x.sock", Address(kind="unix", path="/run/x.sock"), "/run/x.sock"),
        ("unix:@memunit/demo", Address(kind="unix", path="@memunit/demo"), "@memunit/demo"),
        ("/run/x?a=b", Address(kind="unix", path="/run/x?a=b"), "/run/x?a=b"),
        ("@memunit/demo", Address(kind="unix", path="@memunit/demo"), "@memunit/demo"),
        ("vsock:2:8000", Address(kind="vsock", host="2", port=8000), "vsock:2:8000"),
        ("vsock::4294967294", Address(kind="vsock", port=4294967294), "vsock::4294967294"),
    ],
)
def test_addresses(text: str, address: Address, again: str) -> None:
    parsed = parse_address(text)
    assert parsed == address
    assert str(parsed) == again
    assert parse_address(again) == address


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("", "the port is missing", '"127.0.0.1:8000"'),
        ("http", "'http' is not a port", '"127.0.0.1:8000"'),
        ("127.0.0.1:", "the port is missing", '"127.0.0.1:8000"'),
        ("127.0.0.1:http", "'http' is not a port", '"127.0.0.1:8000"'),
        ("127.0.0.1:65536", "port 65536 is over 65535", "1 to 65535"),
        ("127.0.0.1:-1", "'-1' is not a port", '"127.0.0.1:8000"'),
        ("127.0.0.1:\u0668\u0660", "is not a port", '"127.0.0.1:8000"'),
        ("127.0.0.1", "'127.0.0.1' is not a port", '"127.0.0.1:8000"'),
        ("127.0.0.256:80", "'127.0.0.256' is not an IP address", "address itself"),
        ("shop.example:8000", "no name but localhost is looked up", '"192.0.2.1:8000"'),
        ("localhost:", "the port is missing", '"127.0.0.1:8000"'),
        ("localhost:http", "'http' is not a port", '"127.0.0.1:8000"'),
        ("localhost", "'localhost' is not a port", '"127.0.0.1:8000"'),
        (":8000", "the host is missing", 'say "8000", for this machine alone "127.0.0.1:8000"'),
        ("*:8000", "the host is missing", 'say "8000"'),
        ("::1:8000", "is ambiguous", '"[::1]:8000"'),
        ("[::g]:80", "'::g' is not an IPv6 address", '"[::1]:8000"'),
        ("[fe80::1%eth0]:80", "names a network interface", "leave it out"),
        ("http://127.0.0.1:8000/", "is a URL", '"127.0.0.1:8000"'),
        ("unix:run/x.sock", "is not an absolute path", '"/run/x.sock"'),
        ("unix:///run/x.sock", "is a URL", '"/run/x.sock"'),
        ("unix:/run/x.sock?mode=0660&group=www-data", "settings of their own", "--socket-mode"),
        ("unix:/run/x.sock?group=www-data", "settings of their own", 'say "/run/x.sock"'),
        ("run/x.sock", "is not an absolute path", '"/run/x.sock"'),
        ("./x.sock", "is not an absolute path", '"/x.sock"'),
        ("/run/", "has no name at its end", '"/run/app.sock"'),
        ("@", "has no name at its end", '"@app.sock"'),
        ("/run/\0x", "unprintable", "typed"),
        ("/run/x ", "ends with a space", "choose another name"),
        ("@x\\", "ends with a backslash", "choose another name"),
        ("/run/../x.sock", "has . or .. in it", "write the path without"),
        ("vsock:8000", "is not vsock:CID:PORT", '"vsock::8000"'),
        ("vsock:-1:8000", "is not vsock:CID:PORT", '"vsock::8000"'),
        ("vsock:4294967295:1", "is not vsock:CID:PORT", '"vsock:2:8000"'),
        ("vsock:any:1", "is not vsock:CID:PORT", '"vsock:2:8000"'),
        ("/" + 107 * "x", "has 108 bytes", "107"),
    ],
)
def test_addresses_refused(text: str, message: str, remedy: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert message in refused.value.message
    assert remedy in refused.value.message + refused.value.remedy


def test_localhost_is_both_families_without_a_look_up() -> None:
    both = tuple(Address(kind="tcp", host=host, port=9001) for host in ("127.0.0.1", "::1"))
    assert parse_address("localhost:9001").places == both
    assert both[0].places == both[:1]


def test_a_path_may_have_107_bytes() -> None:
    assert parse_address("/" + 106 * "x").path == "/" + 106 * "x"


@given(st.text())
def test_any_text_is_an_address_or_refused_as_one(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address
