"""What memunit-generator(8) takes with 50 instances: after a boot, when each is read, and when nothing has changed."""

import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
INSTANCES = 50
RUNS = 20
FILE = """[app]
run = "shop.web:app"
python = "/srv/shop/venv/bin/python"
directory = "/srv/shop"
environment = { DJANGO_SETTINGS_MODULE = "shop.settings" }
[socket]
listen = ["127.0.0.1:8000", "/run/shop/a.sock"]
mode = "0660"
[workers]
count = 4
[memory]
limit = "400M"
ceiling = "600M"
[stop]
grace = "30s"
[service]
user = "shop"
environment_files = ["/etc/shop/secrets.env"]
"""
_DEBIAN = "/usr/lib/python3/dist-packages"


def main() -> None:
    """Measure and print, in alternation: a bare interpreter, a first run, one with nothing changed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        place = Path(folder)
        (place / "files").mkdir()
        for number in range(INSTANCES):
            (place / f"files/shop{number}.toml").write_text(FILE)
        program = place / "memunit-generator"
        program.write_text((ROOT / "units/memunit-generator").read_text().replace(_DEBIAN, str(ROOT)))
        normal, runtime = place / "normal", place / "run"
        words: list[str | Path] = [
            "/usr/bin/python3",
            "-IS",
            program,
            "--from",
            place / "files",
            "--keep",
            runtime,
            normal,
        ]
        # A file is taken for settled two seconds after its last change.
        while time.time() - max(file.stat().st_ctime for file in (place / "files").iterdir()) < 2.1:
            _run(words, normal)
        spent: dict[str, list[tuple[float, float]]] = {
            "an interpreter": [],
            "first run": [],
            "nothing changed": [],
        }
        for _ in range(RUNS):
            spent["an interpreter"].append(_run(["/usr/bin/python3", "-IS", "-c", "pass"], normal))
            shutil.rmtree(runtime, ignore_errors=True)
            spent["first run"].append(_run(words, normal))
            spent["nothing changed"].append(_run(words, normal))
        for name, times in spent.items():
            cpu, wall = (1e3 * median(each[i] for each in times) for i in (0, 1))
            print(f"{name:16} CPU {cpu:.1f} ms, wall {wall:.1f} ms (medians of {RUNS})")


def _run(words: Sequence[str | Path], normal: Path) -> tuple[float, float]:
    """Processor time and time, in seconds."""
    shutil.rmtree(normal, ignore_errors=True)
    normal.mkdir()
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall
