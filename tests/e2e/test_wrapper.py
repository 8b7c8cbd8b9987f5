"""`./parley` in a clean copy of the source tree with an empty HOME."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOVED = ("parley", "requirements", "homeserver", "federation", "client_api", "config", "pyproject.toml")
EXTRA_SECONDS = 0.2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "source tree"
    tree.mkdir()
    for name in MOVED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "XDG"))}
    return {**kept, "HOME": str(home), "PARLEY_PYTHON": sys.executable, **more}


def run(tree: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(tree / "parley"), *arguments]
    return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.timeout(400)
def test_first_starts_prepare_the_environment_once_and_later_ones_are_quick(tree: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: run(tree, env, "--version"), range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    told = first.stderr + second.stderr
    assert told.count("preparing the environment") == 1
    assert told.count("\n") == 1
    assert list((tree / ".parley").glob("*.lock")) == []
    (venv,) = (tree / ".parley").glob("run-*[0-9]")
    direct = [str(venv / "bin" / "python"), "-I", "-m", "homeserver", "--version"]

    def seconds(command: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(command, cwd="/", env=env, check=True, capture_output=True)
        return time.perf_counter() - began

    extra = min(seconds([str(tree / "parley"), "--version"]) for _ in range(5)) - min(seconds(direct) for _ in range(5))
    assert extra < EXTRA_SECONDS
    again = run(tree, env, "--version")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_dead_builders_lock_is_taken_over(tree: Path, tmp_path: Path) -> None:
    # The dependencies do not matter here: an empty lock file builds at once.
    (tree / "requirements" / "run.lock").write_text("")
    dead = subprocess.Popen(["true"])
    dead.wait()
    env = environment(tmp_path)
    run(tree, env, "--version")
    (venv,) = (tree / ".parley").glob("run-*[0-9]")
    shutil.rmtree(venv)
    lock = venv.with_name(venv.name + ".lock")
    lock.mkdir()
    (lock / "pid").write_text(f"{dead.pid}\n")
    run(tree, env, "--version")
    assert (venv / "ready").exists()
    assert not lock.exists()


def fake_python(folder: Path, version: str, *, has_venv: bool) -> Path:
    fake = folder / "fakepython"
    old = f"print('{version}'); import sys; sys.exit({version.split('.') < ['3', '11']})"
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *version_info*) exec {sys.executable} -c "{old}";; '
        f"*ensurepip*) exit {0 if has_venv else 1};; esac\nexit 1\n"
    )
    fake.chmod(0o755)
    return fake


def test_an_old_python_gets_one_line_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    fake = fake_python(tmp_path, "3.09", has_venv=True)
    done = run(tree, environment(tmp_path, PARLEY_PYTHON=str(fake), PATH="/usr/bin:/bin"), "--version")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "remedy:" in done.stderr


def test_a_missing_venv_module_gets_one_line_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    fake = fake_python(tmp_path, "3.11", has_venv=False)
    done = run(tree, environment(tmp_path, PARLEY_PYTHON=str(fake)), "--version")
    assert done.returncode == 1
    assert (
        done.stderr
        == "parley: Python's venv module is missing; remedy: apt install python3.11-venv (or python3-venv)\n"
    )


def test_a_failed_installation_is_told_and_tried_again(tree: Path, tmp_path: Path) -> None:
    (tree / "requirements" / "run.lock").write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    env = environment(tmp_path, PIP_NO_INDEX="1")
    for _ in range(2):
        done = run(tree, env, "--version")
        assert done.returncode == 1
        assert "remedy: check the network" in done.stderr
    assert list((tree / ".parley").glob("*.lock")) == []
