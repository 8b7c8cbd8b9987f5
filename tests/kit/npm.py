"""Programs of npm, fetched when a test needs them: exact versions and hashes from a lock, nothing of them in the source tree."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_NPM, _NODE = shutil.which("npm"), shutil.which("node")
_SECONDS: Final = 240


def installed(driver: Path, packages: Path, folder: Path) -> Path:
    """Install what ``packages`` (a folder with package.json and its lock) names into ``folder``; a copy of ``driver`` beside it.

    The test is skipped, with the reason, where npm is missing or cannot fetch.
    """
    if _NPM is None or _NODE is None:
        pytest.skip("npm or node is not installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages / name, folder)
    command = [_NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit", "peer"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm ci of {packages.name} takes longer than {_SECONDS} s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm ci of {packages.name} failed: {error.stderr.decode(errors='replace')[-500:]}")
    return Path(shutil.copy(driver, folder))


def node() -> str:
    """The path of node. RuntimeError without it; `installed` skips before."""
    if _NODE is None:
        raise RuntimeError("node is not installed")
    return _NODE
