"""What an instance's file may say, and what it is told where it may not."""
# ruff: noqa: E501  each message is quoted whole

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memunit.core.address import Address
from memunit.core.reserved import RESERVED_VARIABLES
from memunit.core.schema import BY_PATH, KEYS, Kind
from memunit.core.settings import (
    App,
    Examine,
    Http,
    Interface,
    Memory,
    Recorder,
    Service,
    Settings,
    SettingsError,
    Socket,
    Stop,
    Workers,
    examine,
    parse,
)
from memunit.core.settings_values import convert
from memunit.master.afresh import NOT_FOR_WORKERS
from memunit.records import fields, is_dataclass

SOURCE = "/etc/memunit/app.toml"
M = 1 << 20

WHOLE = """
[app]
run = "shop.web:app"
server = "wsgi"
threads = 4
python = "/srv/shop/venv/bin/python"
directory = "/srv/shop"
environment = { DJANGO_SETTINGS_MODULE = "shop.settings" }
access_log = true
preload = false
after_fork = "shop.db:reopen"
before_stop = "shop.db:close"
give_back = "shop.cache:clear"
ready = "notify"
[socket]
listen = ["/run/shop.sock"]
mode = "0660"
user = "1"
group = "shop"
[workers]
count = 4
surge = 2
start_timeout = "20s"
watchdog = "1min"
min_lifetime = "5s"
max_age = "1d"
[memory]
limit = "400M"
ceiling = "600M"
total = "3G"
patience = "3s"
metric = "pss"
interval = "500ms"
give_back = true
allocator = "glibc-tight"
[http]
head_size = "16K"
head_timeout = "5s"
body_size = "100M"
body_timeout = "1min"
[stop]
grace = "10s"
signal = "SIGTERM"
[examine]
time = "1s"
memory = "32M"
[recorder]
size = "16M"
[interface]
read_group = "oncall"
[service]
user = "shop"
group = "www-data"
environment_files = ["/etc/shop/a.env", "-/etc/shop/b.env"]
credentials = { key = "/etc/shop/key" }
writable = ["/srv/shop/uploads"]
umask = "0027"
network = "local"
watchdog = "1min"
"""


def problems_of(text: str, source: str = SOURCE) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        parse(tomllib.loads(text), source)
    return [str(problem).removeprefix(f"{source}: ") for problem in refused.value.problems]


def app(more: str = "") -> str:
    return f'[app]\nrun = "a:b"\n{more}'


def test_a_whole_file() -> None:
    parsed = parse(tomllib.loads(WHOLE), SOURCE)
    assert parsed.warnings == ()
    assert parsed.settings == Settings(
        app=App(
            run="shop.web:app",
            server="wsgi",
            threads=4,
            python="/srv/shop/venv/bin/python",
            directory="/srv/shop",
            environment={"DJANGO_SETTINGS_MODULE": "shop.settings"},
            access_log=True,
            preload=False,
            after_fork="shop.db:reopen",
            before_stop="shop.db:close",
            give_back="shop.cache:clear",
        ),
        socket=Socket(
            listen=(Address(kind="unix", path="/run/shop.sock"),), mode=0o660, user="1", group="shop"
        ),
        workers=Workers(
            count=4, surge=2, start_timeout=20.0, watchdog=60.0, min_lifetime=5.0, max_age=86400.0
        ),
        memory=Memory(
            limit=400 * M,
            ceiling=600 * M,
            total=3072 * M,
            patience=3.0,
            metric="pss",
            interval=0.5,
            give_back=True,
            allocator="glibc-tight",
        ),
        http=Http(head_size=16 << 10, head_timeout=5.0, body_size=100 * M, body_timeout=60.0),
        stop=Stop(grace=10.0),
        examine=Examine(time=1.0, memory=32 * M),
        recorder=Recorder(size=16 * M),
        interface=Interface(read_group="oncall"),
        service=Service(
            user="shop",
            group="www-data",
            environment_files=("/etc/shop/a.env", "-/etc/shop/b.env"),
            credentials={"key": "/etc/shop/key"},
            writable=("/srv/shop/uploads",),
            umask=0o027,
            network="local",
            watchdog=60.0,
        ),
    )


def test_the_whole_file_has_every_key() -> None:
    document = tomllib.loads(WHOLE)
    said = {f"{table}.{name}" for table, content in document.items() for name in content}
    # Keys that only a command or a Node program may have.
    assert said == set(BY_PATH) - {"app.command", "app.node", "examine.command"}


def test_defaults() -> None:
    parsed = parse({"app": {"run": "a:b"}}, SOURCE)
    assert parsed.warnings == ()
    assert parsed.settings == Settings(app=App(run="a:b"))
    assert parsed.settings.memory == Memory(
        limit=None, ceiling=None, patience=2.0, metric="auto", interval=1.0
    )
    assert parsed.settings.workers == Workers(
        count=None, surge=1, start_timeout=30.0, watchdog=30.0, min_lifetime=10.0, max_age=math.inf
    )
    assert parsed.settings.stop.grace == 30.0


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_the_table_and_the_settings_agree_on_each_key_and_default(key: Any) -> None:
    table = getattr(Settings(app=App()), key.table)
    assert is_dataclass(table)
    assert key.name in {field.name for field in fields(table)}
    if key.default is None:
        assert getattr(table, key.name) is None
    else:
        assert getattr(table, key.name) == convert(key, key.default)


def test_every_field_of_the_settings_is_a_key() -> None:
    empty = Settings(app=App())
    said = {f"{table.name}.{f.name}" for table in fields(empty) for f in fields(getattr(empty, table.name))}
    assert said == set(BY_PATH)


def test_no_variable_is_dropped_without_a_word() -> None:
    assert NOT_FOR_WORKERS <= RESERVED_VARIABLES


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            app(
                '[socket]\nlisten = ["web:80", 80, "80", "80", "/a/", "/b.sock", "localhost:81", "[::1]:81"]'
            ),
            [
                "socket.listen: 'web:80': 'web' is not an IP address, and no name but localhost is looked up; say the address itself, as in \"192.0.2.1:80\"",
                'socket.listen: 80 in the list is not a text; in quotes: ["80"]',
                "socket.listen: [::]:80 is listed twice; remove one",
                "socket.listen: '/a/' has no name at its end; say \"/a/app.sock\"",
                "socket.listen: [::1]:81 is listed twice; remove one",
            ],
        ),
        (
            app('[socket]\nlisten = "web:80"'),
            [
                'socket.listen: is one address and not a list; say a list of addresses as in ["127.0.0.1:8000"]',
                "socket.listen: 'web:80': 'web' is not an IP address, and no name but localhost is looked up; say the address itself, as in \"192.0.2.1:80\"",
            ],
        ),
        (
            app("[socket]\nlisten = [99999]"),
            [
                'socket.listen: 99999 in the list is not a text; say a list of addresses as in ["127.0.0.1:8000"]',
                "socket.listen: '99999': port 99999 is over 65535; say one from 1 to 65535",
            ],
        ),
        (
            app('environment = { "A=B" = "", LISTEN_FDS = "3", PORT = 80, C = "C" }'),
            [
                'app.environment: "A=B" is not a variable\'s name; write a name without =',
                "app.environment: memunit itself sets LISTEN_FDS for each worker; leave it out",
                'app.environment: PORT: 80 is not a text; in quotes: PORT = "80"',
            ],
        ),
        (
            '[app]\ncommand = ["", 80, "x", true, "\\u0000"]',
            [
                'app.command: names no program; say it as in ["node", "server.js"]',
                'app.command: 80 in the list is not a text; say "80"',
                "app.command: true in the list is not a text",
                "app.command: has a NUL character in it; remove it",
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_one_value(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


@pytest.mark.parametrize("value", ["nan", "inf", '"soon"', '"200y"', "-1", '"infinity"'])
def test_infinity_is_no_remedy_where_it_is_refused(value: str) -> None:
    (problem,) = problems_of(app(f"[stop]\ngrace = {value}"))
    assert "infinity" not in problem.partition("; ")[2]
    (problem,) = problems_of(app(f"[workers]\nmax_age = {'nan' if 'infinity' in value else value}"))
    assert ("infinity" in problem.partition("; ")[2]) is (value != "-1")


def test_auto_is_cgroup() -> None:
    assert Memory().measured == "cgroup"
    assert Memory(metric="rss").measured == "rss"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (
            '[app]\ncommand = ["node", "server.js"]\nready = "exec"',
            App(command=("node", "server.js"), ready="exec"),
        ),
        ('[app]\nrun = "shop:make()"\nserver = "callable"', App(run="shop:make()", server="callable")),
        ('[app]\nrun = "a.b_1:c.d"', App(run="a.b_1:c.d")),
        ('[app]\nrun = "a:b"\n[app.environment]\nA = ""', App(run="a:b", environment={"A": ""})),
    ],
)
def test_apps(text: str, settings: App) -> None:
    assert parse(tomllib.loads(text), SOURCE).settings.app == settings


def test_a_ceiling_needs_no_limit() -> None:
    parsed = parse(tomllib.loads(app('[memory]\nceiling = "600M"')), SOURCE)
    assert parsed.warnings == ()
    assert (parsed.settings.memory.limit, parsed.settings.memory.ceiling) == (None, 600 * M)


def test_infinity_is_no_bound() -> None:
    parsed = parse(tomllib.loads(app('[memory]\nlimit = "infinity"\nceiling = "1M"')), SOURCE)
    assert parsed.settings.memory.limit is None


@pytest.mark.parametrize("value", ['"0"', "0", '"infinity"'])
def test_no_watchdog(value: str) -> None:
    parsed = parse(tomllib.loads(app(f"[workers]\nwatchdog = {value}")), SOURCE)
    assert parsed.settings.workers.watchdog == math.inf


def test_surge_0_is_allowed() -> None:
    assert parse(tomllib.loads(app("[workers]\nsurge = 0")), SOURCE).settings.workers.surge == 0


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        # names
        ('[memory]\nlimt = "4M"', 'memory.limt: unknown key; did you mean "limit"?'),
        ('[memory]\nLIMIT = "4M"', 'memory.LIMIT: unknown key; did you mean "limit"?'),
        ('[workers]\nmin-lifetime = "4s"', 'workers.min-lifetime: unknown key; did you mean "min_lifetime"?'),
        ('[workers]\nlimit = "4M"', 'workers.limit: unknown key; did you mean "limit" in [memory]?'),
        ("[stop]\nzzz = 1", "stop.zzz: unknown key; the keys of [stop] are grace, signal"),
        ("[worker]\ncount = 4", "[worker]: unknown table; did you mean [workers]?"),
        (
            "[zzz]\ncount = 4",
            "[zzz]: unknown table; the tables are [app], [socket], [workers], [memory], [http], [stop], [examine], [recorder], [interface], [service]",
        ),
        # types
        ("[memory]\nlimit = true", 'memory.limit: true is not a size as in "400M"'),
        ("[memory]\nlimit = 1.5", 'memory.limit: 1.5 is not a size as in "400M"'),
        ('[memory]\nlimit = ["4M"]', 'memory.limit: a list is not a size as in "400M"'),
        ("[stop]\ngrace = {}", 'stop.grace: a table is not a time as in "30s"'),
        ('[workers]\ncount = "4"', 'workers.count: "4" is a text; without quotes: 4'),
        (
            '[workers]\ncount = "many"',
            'workers.count: "many" is not a whole number from 1 to 1024, or "auto"',
        ),
        ("[workers]\ncount = 1.5", 'workers.count: 1.5 is not a whole number from 1 to 1024, or "auto"'),
        ("[workers]\ncount = true", 'workers.count: true is not a whole number from 1 to 1024, or "auto"'),
        ("[workers]\nsurge = -1", "workers.surge: -1 is not a whole number from 0 to 1024"),
        ("[workers]\nsurge = 1979-05-27", "workers.surge: 1979-05-27 is not a whole number from 0 to 1024"),
        ('access_log = "auto"', 'app.access_log: "auto" is not true or false, without quotes'),
        ('access_log = "true"', 'app.access_log: "true" is a text; without quotes: true'),
        ('preload = "yes"', 'app.preload: "yes" is not true, false or "auto"'),
        ('preload = "true"', 'app.preload: "true" is a text; without quotes: true'),
        ("preload = 1", 'app.preload: 1 is not true, false or "auto"'),
        ("directory = 4", 'app.directory: 4 is not an absolute path as in "/srv/shop"'),
        ("environment = 4", 'app.environment: 4 is not a table of texts as in { LANG = "C" }'),
        # values
        ("[memory]\nlimit = 400", 'memory.limit: 400 bytes; say "400M"'),
        ('[memory]\nlimit = "400"', 'memory.limit: 400 bytes; say "400M"'),
        ('[memory]\nlimit = "400MB"', "memory.limit: '400MB' is not a size; say \"400M\""),
        (
            "[memory]\nlimit = 0",
            'memory.limit: no process runs in 0 bytes; say a size such as "400M", or "infinity" for no bound',
        ),
        (
            f"[memory]\nlimit = 0x{'f' * 5000}",
            'memory.limit: a number of more than 64 bits; say "infinity" for no bound',
        ),
        (f"[stop]\ngrace = 0x{'f' * 5000}", 'stop.grace: a number of more than 64 bits; say "30s"'),
        (
            f"[workers]\ncount = 0x{'f' * 5000}",
            'workers.count: a number of more than 64 bits is not a whole number from 1 to 1024, or "auto"',
        ),
        (
            "[workers]\ncount = 0",
            "workers.count: 0 workers serve nobody; say 1 or more; to serve nobody, stop the .socket unit",
        ),
        ("[workers]\ncount = 1025", 'workers.count: 1025 is not a whole number from 1 to 1024, or "auto"'),
        (
            "[memory]\npatience = nan",
            'memory.patience: nan is not a time; say a time such as "30s"',
        ),
        (
            '[memory]\npatience = "infinity"',
            'memory.patience: this time can\'t be infinity; say a time such as "2s"',
        ),
        (
            '[workers]\nstart_timeout = "infinity"',
            'workers.start_timeout: this time can\'t be infinity; say a time such as "30s"',
        ),
        (
            "[workers]\nstart_timeout = 0",
            'workers.start_timeout: 0 is too short; say "100ms" at least; "30s" is usual',
        ),
        (
            '[workers]\nwatchdog = "1us"',
            'workers.watchdog: 1us is too short; say "100ms" at least; "30s" is usual',
        ),
        ("[memory]\ninterval = 0", 'memory.interval: 0 is too short; say "10ms" at least; "1s" is usual'),
        ("[http]\nhead_size = 0", 'http.head_size: 0B is too small; say "1K" at least; "64K" is usual'),
        (
            '[http]\nhead_size = "0.9K"',
            'http.head_size: 921B is too small; say "1K" at least; "64K" is usual',
        ),
        (
            '[http]\nhead_size = "infinity"',
            'http.head_size: this size can\'t be infinity; say a size such as "64K"',
        ),
        ("[http]\nbody_size = 0", 'http.body_size: 0B is too small; say "1K" at least; "infinity" is usual'),
        (
            "[http]\nhead_timeout = 0",
            'http.head_timeout: 0 is too short; say "100ms" at least; "10s" is usual',
        ),
        (
            "[http]\nbody_timeout = 0",
            'http.body_timeout: 0 is too short; say "100ms" at least; "30s" is usual',
        ),
        (
            'server = "callable"\n[http]\nbody_size = "1M"',
            'http.body_size: goes with app.server "asgi" or "wsgi", not with "callable"; '
            'remove it: "callable" speaks HTTP by itself',
        ),
        ("[workers]\nmax_age = 0", 'workers.max_age: 0 is too short; say "1s" at least; "infinity" is usual'),
        (
            '[memory]\nmetric = "ussr"',
            'memory.metric: "ussr" is not "auto" or "cgroup" or "uss" or "pss" or "rss"; did you mean "uss"?',
        ),
        ('ready = "soon"', 'app.ready: "soon" is not "notify" or "exec"; say one of these'),
        (
            'server = "asgj"',
            'app.server: "asgj" is not "asgi" or "wsgi" or "callable" or "node"; did you mean "asgi"?',
        ),
        ("threads = 8", 'app.threads: goes with app.server "wsgi", not with "asgi"; remove it'),
        ('server = "wsgi"\nthreads = 0', "app.threads: 0 threads answer nothing; say 1 or more"),
        (
            'directory = "srv"',
            'app.directory: "srv" is not an absolute path; write the whole path, from / on',
        ),
        (
            'directory = "~/a"',
            'app.directory: "~/a": ~ is not expanded here; write the whole path, from / on',
        ),
        (
            'directory = ""',
            'app.directory: is empty; say an absolute path as in "/srv/shop", or leave the key out',
        ),
        ('directory = "/a\\u0000"', "app.directory: has a NUL character in it; remove it"),
        (
            f'environment = {{ X = "{"é" * (64 << 10)}" }}',
            (
                "app.environment: X has 131074 bytes, and the kernel passes fewer than 131072 to a program; "
                "put it in a file, and name that"
            ),
        ),
        ("environment = { PORT = 80 }", 'app.environment: PORT: 80 is not a text; in quotes: PORT = "80"'),
        ("environment = { X = true }", 'app.environment: X: true is not a text; in quotes: X = "true"'),
        (
            'environment = { "A=B" = "" }',
            'app.environment: "A=B" is not a variable\'s name; write a name without =',
        ),
        (
            'environment = { LISTEN_FDS = "3" }',
            "app.environment: memunit itself sets LISTEN_FDS for each worker; leave it out",
        ),
        (
            'environment = { FDSTORE = "3" }',
            "app.environment: memunit itself sets FDSTORE for each worker; leave it out",
        ),
        (
            '[socket]\nlisten = "8000"',
            'socket.listen: is one address and not a list; in brackets: ["8000"]',
        ),
        ("[socket]\nlisten = [8000]", 'socket.listen: 8000 in the list is not a text; in quotes: ["8000"]'),
        (
            '[socket]\nlisten = ["8000", "[::]:8000"]',
            "socket.listen: [::]:8000 is listed twice; remove one",
        ),
        (
            '[socket]\nlisten = ["web:80"]',
            (
                "socket.listen: 'web:80': 'web' is not an IP address, and no name but localhost is looked up; "
                'say the address itself, as in "192.0.2.1:80"'
            ),
        ),
        ("[socket]\nmode = 0o660", 'socket.mode: 432 is a number; in quotes, as "0660"'),
        (
            '[socket]\nlisten = ["80"]\ngroup = "a"',
            "socket.group: goes with the path of a Unix socket, and socket.listen has none; remove it",
        ),
        (
            '[socket]\nlisten = ["@a"]\nmode = "0660"',
            "socket.mode: goes with the path of a Unix socket, and socket.listen has none; remove it",
        ),
        ("[socket]\nuser = 33", 'socket.user: 33 is a number; in quotes: "33"'),
        # contradictions
        (
            '[memory]\nlimit = "600M"\nceiling = "400M"',
            (
                "memory.limit: 600M is over the memory.ceiling of 400M: a worker would be killed before it is replaced; set the limit below 400M, or "
                "the ceiling above 600M"
            ),
        ),
        (
            'command = ["x"]',
            "app.run: can't be set together with app.command: a worker runs only one of them; remove one of them",
        ),
        (
            'ready = "exec"',
            "app.ready: exec is for commands: a Python worker says itself when it is ready; remove it",
        ),
    ],
)
def test_one_problem(more: str, problem: str) -> None:
    assert problems_of(app(more)) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "",
            'app: nothing to run; in [app] say run = "module:app" or command = ["program"]; see memunit.toml(5)',
        ),
        (
            '[app]\nserver = "asgi"',
            (
                'app: nothing to run; in [app] say run = "module:app" or command = ["program"]; '
                "see memunit.toml(5)"
            ),
        ),
        ('[app]\nrum = "a:b"', 'app.rum: unknown key; did you mean "run"?'),
        ('[ap]\nrun = "a:b"', "[ap]: unknown table; did you mean [app]?"),
        ("app = 4", "app: 4 is not a table; write [app] on a line of its own, and its keys below"),
        ('run = "a:b"', 'run: unknown key; did you mean "run" in [app]?'),
        (
            '[app]\nrun = "shop"',
            'app.run: "shop" names no attribute; say which object of it is meant: "shop:app"',
        ),
        (
            '[app]\nrun = "shop/web.py"',
            (
                'app.run: "shop/web.py" is a file, not a module; say '
                '"shop.web:app" with `directory` as the folder that holds it'
            ),
        ),
        (
            '[app]\nrun = "shop web:app"',
            'app.run: "shop web:app" is not module:attribute; say it as in "shop.web:app"',
        ),
        ("[app]\nrun = 4", 'app.run: 4 is not an app as in "shop.web:app"'),
        (
            '[app]\ncommand = "node server.js"',
            ('app.command: is one text, and no shell splits it into words; say ["node", "server.js"]'),
        ),
        ('[app]\ncommand = " "', 'app.command: names no program; say it as in ["node", "server.js"]'),
        ("[app]\ncommand = []", 'app.command: names no program; say it as in ["node", "server.js"]'),
        ('[app]\ncommand = ["node", 80]', 'app.command: 80 in the list is not a text; say "80"'),
        ("[app]\ncommand = 4", 'app.command: 4 is not a list of texts as in ["node", "server.js"]'),
        (
            '[app]\ncommand = ["x"]\nserver = "asgi"',
            "app.server: goes with app.run, not with a command; remove it",
        ),
        (
            '[app]\ncommand = ["x"]\npython = "/x"',
            "app.python: goes with app.run, not with a command; remove it",
        ),
        ('[app]\ncommand = ["x"]\npreload = true', "app.preload: a command can't be imported; remove it"),
    ],
)
def test_one_problem_of_the_app(text: str, problem: str) -> None:
    assert problems_of(text) == [problem]


def test_all_problems_at_once() -> None:
    text = """
    [app]
    server = "wsgj"
    python = "python3"
    [memory]
    limt = "1M"
    limit = 400
    [workers]
    count = "no"
    [stop]
    grace = "soon"
    """
    keys = [line.split(": ")[0] for line in problems_of(text)]
    assert keys == [
        "app.server",
        "app.python",
        "memory.limt",
        "memory.limit",
        "workers.count",
        "stop.grace",
        "app",
    ]


def test_the_error_is_a_line_a_problem() -> None:
    with pytest.raises(SettingsError) as refused:
        parse({"app": {"run": "a:b", "x\n\x1by": 1}, "memory": {"limit": "4\nX"}}, SOURCE)
    lines = str(refused.value).split("\n")
    assert len(lines) == 2
    assert lines[0] == (
        f"{SOURCE}: app.x??y: unknown key; the keys of [app] are run, command, server, threads, python, node, "
        "directory, environment, access_log, preload, after_fork, before_stop, give_back, ready"
    )


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        (
            '[memory]\nlimit = "4M"\nceiling = "4M"',
            (
                "memory.limit: is the same as the memory.ceiling: a worker is killed there before it can be replaced; "
                "leave room between the two, as 400M and 600M"
            ),
        ),
        (
            '[workers]\nmax_age = "5s"',
            (
                "workers.max_age: 5s is less than the workers.min_lifetime of 10s, so the memory limit is never applied; "
                "raise max_age or lower min_lifetime"
            ),
        ),
    ],
)
def test_warnings(more: str, warning: str) -> None:
    parsed = parse(tomllib.loads(app(more)), SOURCE)
    assert [str(each) for each in parsed.warnings] == [f"{SOURCE}: {warning}"]


def test_any_grace_is_fine() -> None:
    """TimeoutStopSec= of the unit follows it."""
    assert parse(tomllib.loads(app('[stop]\ngrace = "5h"')), SOURCE).warnings == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


# A deadline of Hypothesis's own would be a test of the machine.
@hypothesis_settings(deadline=None)
@given(st.sampled_from(KEYS), VALUES)
def test_no_value_breaks_the_parser(key: Any, value: Any) -> None:
    try:
        parse({key.table: {key.name: value}}, SOURCE)
    except SettingsError as refused:
        said = [str(problem) for problem in refused.problems]
    else:
        assert key.kind in (Kind.TARGET, Kind.WORDS)
        return
    assert said
    assert all(line.isprintable() and line.startswith(SOURCE) and len(line) < 600 for line in said)


# A deadline of Hypothesis's own would be a test of the machine.
@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12), VALUES, max_size=4))
def test_no_document_breaks_the_parser(document: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        parse(document, SOURCE)


@pytest.mark.parametrize("text", ["SIGQUIT", "QUIT", "quit", "SigQuit"])
def test_a_stop_signal_is_written_as_in_a_unit(text: str) -> None:
    words = f'[app]\ncommand = ["nginx"]\n[stop]\nsignal = "{text}"'
    assert parse(tomllib.loads(words), SOURCE).settings.stop.signal == "SIGQUIT"


@pytest.mark.parametrize(
    ("value", "shown"),
    [('"SIGKILL"', '"SIGKILL"'), ('"SIGSTOP"', '"SIGSTOP"'), ('"15"', '"15"'), ('"TREM"', '"TREM"')],
)
def test_a_signal_at_which_nobody_ends_by_himself_is_none(value: str, shown: str) -> None:
    (problem,) = problems_of(f'[app]\ncommand = ["nginx"]\n[stop]\nsignal = {value}')
    words = "SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH"
    assert problem == f"stop.signal: {shown} is not a signal that programs end at; say one of {words}"


def test_a_number_is_no_signals_name() -> None:
    (problem,) = problems_of('[app]\ncommand = ["nginx"]\n[stop]\nsignal = 3')
    assert problem == 'stop.signal: 3 is not a signal as in "SIGQUIT"'


def test_the_workers_of_an_app_have_their_signal() -> None:
    (problem,) = problems_of(app('[stop]\nsignal = "SIGQUIT"'))
    assert problem == "stop.signal: is for commands: the workers of an app stop at SIGTERM; remove it"
    assert parse(tomllib.loads(app('[stop]\nsignal = "SIGTERM"')), SOURCE).settings.stop.signal == "SIGTERM"


def test_a_file_of_unknown_keys_is_refused_at_once() -> None:
    """20,000 took half a minute of guesses, and wrote 1.5 MB to the journal at each start."""
    document = {"app": {f"k{number}": 1 for number in range(20_000)}, "wrokers": {}}
    problems = examine(document, "/x.toml").problems
    assert len([each for each in problems if "unknown" in each.message]) == 21
    assert any(each.message == "has 19981 more keys and tables that are unknown" for each in problems)


def test_a_program_that_examines_is_for_what_does_not_examine_itself() -> None:
    words = '[examine]\ncommand = ["/bin/look", "-v"]\n'
    found = parse(tomllib.loads(f'[app]\ncommand = ["nginx"]\n{words}'), SOURCE)
    assert (found.settings.examine.command, found.warnings) == (("/bin/look", "-v"), ())
    node = f'[app]\nrun = "a.js"\nserver = "node"\n{words}'
    assert parse(tomllib.loads(node), SOURCE).warnings == ()
    with pytest.raises(SettingsError, match=r"examine\.command: goes with a command or app\.server"):
        parse(tomllib.loads(app(words)), SOURCE)
    (warning,) = parse(tomllib.loads(f'[app]\ncommand = ["nginx"]\n{words}time = 0\n'), SOURCE).warnings
    assert "never runs" in str(warning)
