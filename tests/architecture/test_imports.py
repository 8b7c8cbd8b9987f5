"""Each module can be imported first, and the command line starts quickly."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "client_api", "config")
NOT_MODULES = ("migrations",)
START_SECONDS = 0.5
SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    before = set(sys.modules)
    try:
        importlib.import_module(name)
    except BaseException as error:
        sys.exit(f"{name}: {error!r}")
    # Only our own modules go: what libraries register cannot be registered twice.
    for loaded in set(sys.modules) - before:
        if loaded.partition(".")[0] in ("homeserver", "federation", "client_api", "config"):
            del sys.modules[loaded]
"""


def test_every_module_imports_alone() -> None:
    names = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if path.name not in ("__init__.py", "__main__.py") and not set(NOT_MODULES) & set(parts):
                names.append(".".join(parts))
    done = subprocess.run([sys.executable, "-c", SCRIPT, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_quickly() -> None:
    command = [sys.executable, "-m", "homeserver", "--help"]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    assert min(times) < START_SECONDS
