"""One large upload: how fast, and how much memory it takes; beside it the same PUT to nginx, where that is installed.

The sender is a thread of this process that hands over a file which is in the page cache. Ours computes SHA-256 and syncs
file and folder before it answers; nginx (`dav_methods PUT`) does neither.
"""

import http.client
import json
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import trustme

from tests.benchmarks.parley import ParleyRig
from tests.benchmarks.processes import free_port
from tests.benchmarks.servers import PASSWORD, Server, ServerFailure

_HOST: Final = "127.0.0.1"
_NGINX: Final = shutil.which("nginx")
_BLOCK: Final = 256 * 1024
_WARM_UP: Final = 4 * 1024**2
_SAMPLE_SECONDS: Final = 0.02

Send = Callable[[int], float]
"""Uploads that many bytes; the seconds until the answer."""


class UploadRig(ParleyRig):
    """Parley with room for large files, and a second port that speaks HTTP without TLS."""

    def prepare(self) -> None:
        super().prepare()
        self.plain_port = free_port()
        configuration = self.folder / "parley0" / "parley.toml"
        text = configuration.read_text()
        self.tls_port = int(text.partition('public_url = "https://')[2].partition('"')[0].rpartition(":")[2])
        bounds = "\n".join(f'{name} = "64 GiB"' for name in ("max_bytes", "account_bytes", "account_daily_bytes"))
        configuration.write_text(
            f'{text}\n[[listen]]\nkind = "https"\nhost = "{_HOST}"\nport = {self.plain_port}\ntls = "optional"\n'
            f"\n[upload]\n{bounds}\n"
        )

    def start(self) -> None:
        super().start()
        for port in (self.plain_port, self.tls_port):
            replace(self.servers[0], port=port).wait_until_listening()

    def token(self) -> str:
        """The access token of account u0."""
        connection = http.client.HTTPConnection(_HOST, self.plain_port, timeout=30)
        body = json.dumps({"username": "u0", "password": PASSWORD})
        connection.request("POST", "/v1/sessions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 201:
            raise ServerFailure(f"no login: {answer.status} {text[:500]!r}")
        return str(json.loads(text)["access_token"])


def measure(folder: Path, size: int) -> dict[str, float]:
    """MiB per second over plain HTTP and over TLS, the growth of memory meanwhile in MiB, and nginx in the same way."""
    source = folder / "source"
    with source.open("wb") as file:
        for _ in range(max(size, _WARM_UP) // _BLOCK):
            file.write(os.urandom(_BLOCK))
    figures: dict[str, float] = {}
    with UploadRig(folder, 1, 1) as rig:
        token = rig.token()
        for name, port, tls in (("plain", rig.plain_port, False), ("tls", rig.tls_port, True)):
            send = _sender(source, port, tls, "POST", "/v1/files?name=large.bin", f"Bearer {token}")
            send(_WARM_UP)
            seconds, grown = _watched(send, size, rig.pids[0])
            figures[f"upload_mib_s_{name}"] = size / 1024**2 / seconds
            figures[f"upload_growth_mib_{name}"] = grown / 1024
    if _NGINX is not None:
        ports = free_port(), free_port()
        with _nginx(_NGINX, folder / "nginx", *ports):
            for name, port, tls in (("plain", ports[0], False), ("tls", ports[1], True)):
                send = _sender(source, port, tls, "PUT", "/large.bin", "none")
                send(_WARM_UP)
                seconds = send(size)
                figures[f"nginx_mib_s_{name}"] = size / 1024**2 / seconds
                figures[f"upload_of_nginx_{name}"] = figures[f"upload_mib_s_{name}"] / figures[f"nginx_mib_s_{name}"]
    return figures


def _sender(source: Path, port: int, tls: bool, method: str, path: str, authorization: str) -> Send:
    def send(size: int) -> float:
        connection = _connection(port, tls)
        began = time.perf_counter()
        connection.putrequest(method, path)
        connection.putheader("Content-Length", str(size))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Authorization", authorization)
        connection.endheaders()
        with source.open("rb") as file:
            _pass_on(connection, file.fileno(), size, tls)
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - began
        connection.close()
        if answer.status not in (201, 204):
            raise ServerFailure(f"the upload failed: {answer.status} {text[:500]!r}")
        return seconds

    return send


def _connection(port: int, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(_HOST, port, timeout=300)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(_HOST, port, timeout=300, context=context)


def _pass_on(connection: http.client.HTTPConnection, file: int, size: int, tls: bool) -> None:
    connection.sock.settimeout(None)  # os.sendfile knows nothing of Python's time limits
    offset = 0
    while offset < size:
        if tls:
            block = os.pread(file, min(_BLOCK, size - offset), offset)
            connection.sock.sendall(block)
            offset += len(block)
        else:
            offset += os.sendfile(connection.sock.fileno(), file, offset, min(2**30, size - offset))


def _watched(send: Send, size: int, pid: int) -> tuple[float, int]:
    """The seconds of an upload, and by how many KiB the resident memory of the server grew at most meanwhile."""
    before = _resident_kib(pid)
    most = before
    failure: list[BaseException] = []
    seconds = 0.0

    def run() -> None:
        nonlocal seconds
        try:
            seconds = send(size)
        except BaseException as error:  # noqa: BLE001 it is raised in the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        most = max(most, _resident_kib(pid))
        thread.join(_SAMPLE_SECONDS)
    if failure:
        raise failure[0]
    return seconds, most - before


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ServerFailure("the server has gone")


@contextmanager
def _nginx(program: str, folder: Path, plain_port: int, tls_port: int) -> Iterator[None]:
    """A process of its own with its own configuration, on loopback."""
    for name in ("files", "incoming"):
        (folder / name).mkdir(parents=True)
    leaf = trustme.CA().issue_cert(_HOST)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    lines = (
        "daemon off; master_process off; worker_processes 1;",
        f"pid {folder}/pid; error_log {folder}/error.log warn;",
        "events { worker_connections 64; }",
        f"http {{ access_log off; client_body_temp_path {folder}/incoming; client_max_body_size 0;",
        *(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")),
        f"server {{ listen {_HOST}:{plain_port}; listen {_HOST}:{tls_port} ssl;",
        f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;",
        f"location / {{ root {folder}/files; dav_methods PUT; }} }} }}",
    )
    (folder / "nginx.conf").write_text("\n".join(lines))
    command = [program, "-e", f"{folder}/error.log", "-p", str(folder), "-c", f"{folder}/nginx.conf"]
    server = Server("nginx", _HOST, plain_port, command, folder / "nginx.log")
    try:
        server.start()
        server.wait_until_listening()
        yield
    finally:
        server.stop()
