import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner, Result

from config.load import load_settings
from homeserver.cli.check import of_certificates, of_folder
from homeserver.cli.main import parley


def prepare(tmp_path: Path, port: int = 0) -> Path:
    made = CliRunner().invoke(parley, ["quickstart", "you@example.org", "--dir", str(tmp_path)])
    assert made.exit_code == 0, made.output
    config = tmp_path / "parley.toml"
    config.write_text(config.read_text() + f'[[listen]]\nkind = "https"\nhost = "127.0.0.1"\nport = {port}\n')
    (tmp_path / "data").chmod(0o700)
    return config


def check(config: Path) -> Result:
    return CliRunner().invoke(parley, ["check", "--offline", "--config", str(config)])


def test_a_fresh_set_up_is_fine(tmp_path: Path) -> None:
    result = check(prepare(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("ok    configuration: ")
    for subject in ("data_dir", "certificate", "port 0", "database"):
        assert any(line.startswith(f"ok    {subject}: ") for line in lines), subject


def test_each_fault_is_told_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = prepare(tmp_path, taken.getsockname()[1])
        (tmp_path / "data").chmod(0o755)
        (tmp_path / "certificates" / "example.org.key").chmod(0o640)
        (tmp_path / "data" / "parley.db").write_bytes(b"this is no database" * 100)
        result = check(config)
    assert result.exit_code == 1
    assert f"chmod o-rwx {tmp_path}/data" in result.output
    assert "example.org.key can be read by others; chmod 600" in result.output
    assert "in use by" in result.output
    assert "bad   database: cannot be used" in result.output
    assert "Traceback" not in result.output


def test_certificates_that_end_or_do_not_fit(tmp_path: Path) -> None:
    config = prepare(tmp_path)
    config.write_text(config.read_text().replace('domains = ["example.org"]', 'domains = ["example.org", "b.example"]'))
    settings = load_settings(config)
    now = datetime.now(UTC)
    texts = [str(finding) for finding in of_certificates(settings, now + timedelta(days=390))]
    assert any("expires in 5 days; renew it" in text or "expires in 6 days; renew it" in text for text in texts)
    assert any(text.startswith("bad   certificate: none is for b.example; request one") for text in texts)
    assert any("has expired" in str(finding) for finding in of_certificates(settings, now + timedelta(days=500)))


def test_a_missing_folder_is_no_fault(tmp_path: Path) -> None:
    (finding,) = of_folder(tmp_path / "none")
    assert finding.level == "note"
