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
        ("@memunit/demo", Address(kind="unix", path="@memunit/demo"), "@memunit/demo"),
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
        ("localhost:8000", "'localhost' is not an IP address", '"127.0.0.1:8000"'),
        (":8000", "'' is not an IP address", '"127.0.0.1:8000"'),
        ("*:8000", "the host is missing", 'say "8000"'),
        ("::1:8000", "is ambiguous", '"[::1]:8000"'),
        ("[::g]:80", "'::g' is not an IPv6 address", '"[::1]:8000"'),
        ("[fe80::1%eth0]:80", "names an interface", "leave it out"),
        ("http://127.0.0.1:8000/", "is a URL", '"127.0.0.1:8000"'),
        ("unix:/run/x.sock", "is not an absolute path", '"/run/x.sock"'),
        ("run/x.sock", "is not an absolute path", '"/run/x.sock"'),
        ("./x.sock", "is not an absolute path", '"/x.sock"'),
        ("/run/", "has no name at its end", '"/run/app.sock"'),
        ("@", "has no name at its end", '"@app.sock"'),
        ("/run/\0x", "unprintable", "typed"),
        ("/" + 107 * "x", "has 108 bytes", "107"),
    ],
)
def test_addresses_refused(text: str, message: str, remedy: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert message in refused.value.message
    assert remedy in refused.value.message + refused.value.remedy


def test_a_path_may_have_107_bytes() -> None:
    assert parse_address("/" + 106 * "x").path == "/" + 106 * "x"


@given(st.text())
def test_any_text_is_an_address_or_refused_as_one(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address
