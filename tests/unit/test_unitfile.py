"""An instance's settings as text for systemd's parser; tests/process/test_generator.py has systemd read it."""

from __future__ import annotations

import tomllib

import pytest

from memunit.core import unitfile
from memunit.core.settings import Parsed, Service, Socket, examine, parse
from memunit.records import fields

FILE = "/etc/memunit/shop.toml"
APP = '[app]\nrun = "a:b"\n'
M = 1 << 20


def lines(
    text: str, kind: str = "service", instance: str = "shop", *, ipv6: bool = True
) -> dict[str, list[str]]:
    parsed = parse(tomllib.loads(APP + text), FILE)
    made = unitfile.drop_ins(parsed, instance, 2, ipv6=ipv6).of(kind)
    return {key: list(said) for key, said in made.items()}


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ('["127.0.0.1:8000"]', ["ListenStream=127.0.0.1:8000"]),
        ('["[::1]:8000"]', ["ListenStream=[::1]:8000"]),
        ('["localhost:8000"]', ["ListenStream=127.0.0.1:8000", "ListenStream=[::1]:8000"]),
        # A bare port: systemd takes IPv4 alone where there is no IPv6.
        ('["8000"]', ["ListenStream=8000", "BindIPv6Only=both"]),
        ('["[::]:8000", "[::1]:80"]', ["ListenStream=8000", "ListenStream=[::1]:80", "BindIPv6Only=both"]),
        ('["/run/a b.sock", "@x"]', ["ListenStream=/run/a b.sock", "ListenStream=@x"]),
        ('["/run/100%.sock"]', ["ListenStream=/run/100%%.sock"]),
        ("""['/run/"x"$y\\z']""", ['ListenStream=/run/"x"$y\\z']),
        ('["vsock::8000", "vsock:2:9"]', ["ListenStream=vsock::8000", "ListenStream=vsock:2:9"]),
    ],
)
def test_where_a_socket_listens(listen: str, said: list[str]) -> None:
    assert lines(f"[socket]\nlisten = {listen}", "socket") == {"socket.listen": ["ListenStream=", *said]}


def test_localhost_on_a_machine_without_ipv6() -> None:
    made = lines('[socket]\nlisten = ["localhost:80", "[::1]:81"]', "socket", ipv6=False)
    assert made == {"socket.listen": ["ListenStream=", "ListenStream=127.0.0.1:80", "ListenStream=[::1]:81"]}


def test_who_may_connect() -> None:
    made = lines('[socket]\nmode = "660"\nuser = "www-data"\ngroup = "33"', "socket")
    assert made == {
        "socket.mode": ["SocketMode=0660"],
        "socket.user": ["SocketUser=www-data"],
        "socket.group": ["SocketGroup=33"],
    }


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ('user = "shop"', "user", ["DynamicUser=no", "User=shop", "RemoveIPC=no"]),
        ('user = "dynamic"', "user", ["User=memunit-shop"]),
        ('group = "shop%"', "group", ["Group=shop%%"]),
        (
            'environment_files = ["/etc/a b.env", "-/etc/50%.env", "/etc/x/*.env"]',
            "environment_files",
            [
                "EnvironmentFile=/etc/a b.env",
                "EnvironmentFile=-/etc/50%%.env",
                "EnvironmentFile=/etc/x/*.env",
            ],
        ),
        ('credentials = { k-1 = "/etc/a:b%" }', "credentials", ["LoadCredential=k-1:/etc/a:b%%"]),
        (
            """writable = ["/srv/a b", '/srv/"x"y', "-/srv/it's", "/srv/$x%"]""",
            "writable",
            [
                'ReadWritePaths="/srv/a b"',
                'ReadWritePaths="/srv/"\'"\'"x"\'"\'"y"',
                'ReadWritePaths="-/srv/it\'s"',
                'ReadWritePaths="/srv/$x%%"',
            ],
        ),
        ('umask = "27"', "umask", ["UMask=0027"]),
        (
            'network = "local"',
            "network",
            ["PrivateNetwork=yes", "RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX"],
        ),
        ('watchdog = "2min"', "watchdog", ["WatchdogSec=2min"]),
        ("watchdog = 0", "watchdog", ["WatchdogSec=infinity"]),
    ],
)
def test_what_the_service_is_told(text: str, key: str, said: list[str]) -> None:
    made = lines(f"[service]\n{text}")
    assert made == {f"service.{key}": said, "stop.grace": ["TimeoutStopSec=1min"]}


def test_every_key_of_both_tables_is_told_somewhere() -> None:
    whole = """
        [socket]
        listen = ["/run/x"]
        mode = "0600"
        user = "x"
        group = "x"
        [service]
        user = "x"
        group = "x"
        environment_files = ["/x"]
        credentials = { x = "/x" }
        writable = ["/x"]
        umask = "0"
        network = "local"
        watchdog = "1min"
    """
    keys = {*lines(whole, "socket"), *lines(whole)} - {"stop.grace"}
    assert keys == {
        *(f"socket.{field.name}" for field in fields(Socket)),
        *(f"service.{field.name}" for field in fields(Service)),
    }


def test_each_dynamic_user_has_a_name_that_systemd_takes() -> None:
    names = {}
    for instance in ("shop", "Shop", "shop.example", "a" * 80, "a\\x2db", "a" * 79 + "b", "x" * 24):
        (said,) = lines('[service]\nuser = "dynamic"', instance=instance)["service.user"]
        names[instance] = said.removeprefix("User=")
        assert unitfile._DYNAMIC_NAME.fullmatch(names[instance])
    assert len(set(names.values())) == len(names)
    assert names["shop"] == "memunit-shop"


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("", None),
        ('[memory]\nlimit = "100M"', None),
        # count + surge + the zygote, and 25M for the master.
        ('[memory]\nceiling = "100M"\n[workers]\ncount = 4', "MemoryMax=625M"),
        ('[memory]\nceiling = "100M"\n[workers]\nsurge = 0', "MemoryMax=325M"),
        ('[memory]\nceiling = "100M"\ntotal = "1G"', "MemoryMax=1G"),
        ('[memory]\nceiling = "100M"\ntotal = "infinity"', None),
        ('[memory]\ntotal = "auto"', None),
    ],
)
def test_the_bound_of_the_whole(text: str, most: str | None) -> None:
    said = [line for each in lines(text).values() for line in each if line.startswith("MemoryMax")]
    assert said == ([most] if most else [])


def test_a_command_has_no_zygote() -> None:
    parsed = parse(
        tomllib.loads('[app]\ncommand = ["x"]\n[memory]\nceiling = "100M"\n[workers]\ncount = 4'), FILE
    )
    assert unitfile.memory_max(parsed.settings, 2) == 525 * M


@pytest.mark.parametrize("app", ['command = ["x"]', 'run = "shop:app"\npreload = false'])
def test_one_worker_meets_its_own_ceiling_before_the_bound_of_the_whole(app: str) -> None:
    """Else the kernel kills it for the unit, and its end is told as a crash."""
    text = f'[app]\n{app}\n[memory]\nceiling = "100M"\n[workers]\ncount = 1\nsurge = 0'
    assert unitfile.memory_max(parse(tomllib.loads(text), FILE).settings, 2) == 225 * M


def test_the_stop_of_a_dead_master_leaves_the_grace_to_its_workers() -> None:
    assert lines('[stop]\ngrace = "6min"')["stop.grace"] == ["TimeoutStopSec=6min 30s"]


def test_a_stop_of_the_unit_is_told_to_the_master_alone() -> None:
    """KillMode=process: it tells the workers by their own signal, and a hung one is to write where it hangs."""
    document = tomllib.loads('[app]\ncommand = ["nginx"]\n[stop]\nsignal = "SIGQUIT"\n')
    made = unitfile.drop_ins(parse(document, FILE), "shop", 2).service
    assert not [
        line for each in made.values() for line in each if line.startswith(("KillSignal", "WatchdogSignal"))
    ]


def test_a_group_that_reads_is_seen_by_a_static_user_alone() -> None:
    """In a user namespace of its own the master could not tell the groups of callers apart."""
    group = '[interface]\nread_group = "oncall"\n'
    assert lines(f'{group}[service]\nuser = "shop"')["interface.read_group"] == ["PrivateUsers=no"]
    for user in ("", '[service]\nuser = "dynamic"'):
        assert "interface.read_group" not in lines(f"{group}{user}")
    parsed = examine(tomllib.loads(f'{APP}[interface]\nread_group = 3\n[service]\nuser = "shop"'), FILE)
    assert not unitfile.unusable(parsed)
    assert "interface.read_group" not in unitfile.drop_ins(parsed, "shop", 2).service


def test_a_text_is_read_back() -> None:
    parsed = parse(tomllib.loads(APP + '[socket]\nlisten = ["8000"]\n[service]\nuser = "shop"'), FILE)
    made = unitfile.drop_ins(parsed, "shop", 2)
    for kind in ("socket", "service"):
        text = unitfile.written(made.of(kind), kind, "shop", FILE)
        assert f"# {FILE}: " in text
        assert unitfile.read(text, FILE) == made.of(kind)
        assert unitfile.read(unitfile.kept(text, ["x", f"{FILE}: y: z"]), FILE) == made.of(kind)
    assert unitfile.written({}, "socket", "shop", FILE) == ""


def test_a_refusal_has_each_problem_as_one_word() -> None:
    text = unitfile.refused(['a "b" $HOME ${x} %n \\ \n\x1b', "second"], "shop", FILE)
    (command,) = [line for line in text.splitlines() if line.startswith("ExecStartPre=")]
    assert ' "a \\"b\\" $$HOME $${x} %%n \\\\  ?" "second" ' in command
    assert all(line.startswith(("#", "[", "Exec", "Syslog")) for line in text.splitlines() if line)


def test_a_refusal_is_short() -> None:
    assert len(unitfile.refused(["x" * 100_000] * 100_000, "shop", FILE)) < 60_000
    assert "99980 more" in unitfile.refused(["x"] * 100_000, "shop", FILE)


@pytest.mark.parametrize(
    ("text", "unusable"),
    [
        (APP, False),
        ("[app]\n", False),
        (APP + '[memory]\nlimit = "400"', False),
        (APP + "[stop]\ngrace = -1", False),
        (APP + '[socket]\nlisten = ["x"]', True),
        (APP + '[socket]\nlisten = ["127.0.0.1:0"]', True),
        (APP + '[socket]\nlisten = ["80", "127.0.0.1:80"]', True),
        (APP + '[socket]\nlisten = ["8000"]\nmode = "0660"', True),
        (APP + '[socket]\nlitsen = ["8000"]', True),
        ("socket = 3\n" + APP, True),
        (APP + '[service]\numask = "0700"', True),
        (APP + '[service]\nusr = "x"', True),
        # What was meant by an unknown table, nobody knows.
        (APP + '[sokcet]\nlisten = ["8000"]', True),
        ('listen = ["8000"]\n' + APP, True),
    ],
)
def test_only_a_file_that_leaves_it_open_is_unusable(text: str, unusable: bool) -> None:
    parsed: Parsed = examine(tomllib.loads(text), FILE)
    assert unitfile.unusable(parsed) is unusable


def test_what_is_in_doubt_is_not_told() -> None:
    parsed = examine(tomllib.loads(APP + '[memory]\nceiling = 3\n[stop]\ngrace = "soon"'), FILE)
    assert not unitfile.unusable(parsed)
    assert unitfile.drop_ins(parsed, "shop", 2).service == {}
    parsed = examine(tomllib.loads(APP + '[memory]\nceiling = "1G"\n[workers]\ncount = 0'), FILE)
    assert set(unitfile.drop_ins(parsed, "shop", 2).service) == {"stop.grace"}
