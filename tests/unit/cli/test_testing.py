"""The parts of `parley test` that touch the machine, on a folder of the test."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from homeserver.cli.testing import HEAVY_NEEDS, NEEDS, Need, services_refused


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_no_service_starts_while_packages_are_installed(tmp_path: Path, before: str | None) -> None:
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        policy.write_text(before)
    with contextlib.suppress(RuntimeError), services_refused([], policy):
        assert subprocess.run([str(policy)], check=False).returncode == 101
        raise RuntimeError
    assert (policy.read_text() if policy.exists() else None) == before
    assert list(tmp_path.iterdir()) == ([policy] if before is not None else [])


def test_a_need_is_a_program_or_a_file(tmp_path: Path) -> None:
    assert Need("dash", ("sh",)).is_there()
    assert not Need("none", ("no-such-program", "/no/such/*/file")).is_there()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "tool").touch()
    assert Need("tool", (f"{tmp_path}/*/tool",)).is_there()
    assert len({need.package for need in NEEDS + HEAVY_NEEDS}) == len(NEEDS + HEAVY_NEEDS)
