"""S-120 to S-128: what strangers and account holders try with uploads."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from config.feature_settings import UploadSettings
from homeserver.domain.accounts import Account
from homeserver.domain.errors import RateLimited, ResourceConstraint, TooLarge
from homeserver.services import files
from homeserver.services.files import Permit
from tests.kit.clocks import FakeClock
from tests.kit.json_server import JsonServer, json_server

MIB = 1024**2
DAY = 86_400.0
SMALL = UploadSettings(max_bytes=MIB, account_bytes=4 * MIB, account_daily_bytes=3 * MIB, slots_per_account=20)


@dataclass
class Site:
    """A server with an account that may upload."""

    server: JsonServer
    alice: Account
    clock: FakeClock
    folder: Path

    async def permit(self, size: int = 5, kind: str | None = "text/plain", name: str = "a.txt") -> Permit:
        return await self.server.files.permit(self.alice, name, size, kind)

    async def put(
        self,
        permit: Permit,
        body: bytes = b"hello",
        *,
        url: str = "",
        token: str | None = None,
        kind: str = "text/plain",
    ) -> int:
        """The status of a PUT."""
        headers = {"Content-Type": kind}
        if token != "":
            headers["Authorization"] = f"Bearer {permit.token if token is None else token}"
        async with self.server.http.put(URL(url or permit.url, encoded=True), data=body, headers=headers) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            return answer.status

    async def get(self, url: str, **headers: str) -> tuple[int, bytes, "aiohttp.typedefs.LooseHeaders"]:
        async with self.server.http.get(URL(url, encoded=True), headers=headers) as answer:
            return answer.status, await answer.read(), answer.headers

    async def raw(self, request: str, body: bytes = b"") -> bytes:
        """The beginning of the answer to these bytes; the server is asked to close behind it."""
        place = urlsplit(self.server.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        line, _, rest = request.partition("\n")
        writer.write(f"{line}\nConnection: close\n{rest}".replace("\n", "\r\n").encode() + body)
        try:
            async with asyncio.timeout(15):
                return await reader.read(65_536)
        finally:
            writer.close()

    async def broken_off(self, request: str, body: bytes) -> None:
        """Send a part of an upload and go away when the server has begun to take it."""
        place = urlsplit(self.server.url)
        _, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(request.replace("\n", "\r\n").encode() + body)
        await self.until(lambda: self.server.files.running == 1)
        writer.transport.abort()
        await self.until(lambda: not self.server.files.running)

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    def contents(self) -> list[bytes]:
        """Everything below the folder of uploads, half a file too."""
        return [path.read_bytes() for path in (self.folder / "uploads").rglob("*") if path.is_file()]


@asynccontextmanager
async def opened(folder: Path, settings: UploadSettings = SMALL) -> AsyncIterator[Site]:
    clock = FakeClock()
    async with json_server(folder / "parley.db", upload=settings, clock=clock) as server:
        await server.token("alice")
        account = await server.accounts.find("alice@a.example")
        assert account is not None
        yield Site(server, account, clock, folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as found:
        yield found


async def test_s120_a_put_of_another_length_changes_nothing(site: Site) -> None:
    permit = await site.permit()
    assert await site.put(permit, b"hello longer") == 413
    assert await site.put(permit, b"hell") == 400
    path = urlsplit(permit.url).path
    head = f"PUT {path} HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nAuthorization: Bearer {permit.token}\n"
    chunked = await site.raw(head + "Transfer-Encoding: chunked\n\n5\nhello\n0\n\n")
    assert chunked.startswith(b"HTTP/1.1 411 ")
    both = await site.raw(head + "Transfer-Encoding: chunked\nContent-Length: 5\n\n5\nhello\n0\n\n")
    assert int(both.split()[1]) == 400
    await site.broken_off(head + "Content-Length: 5\n\n", b"he")
    assert (await site.get(permit.url))[0] == 404
    # A slot whose upload broke off may be used again.
    assert await site.put(permit) == 201
    assert (await site.get(permit.url))[:2] == (200, b"hello")
    assert site.contents() == [b"hello"]


async def test_s120_what_is_there_cannot_be_replaced(site: Site) -> None:
    permit = await site.permit()
    assert await site.put(permit) == 201
    assert await site.put(permit, b"other") == 409
    assert (await site.get(permit.url))[1] == b"hello"
    assert site.contents() == [b"hello"]


async def test_s120_two_puts_at_the_same_time(site: Site) -> None:
    permit = await site.permit(MIB)
    bodies = [bytes([number]) * MIB for number in range(4)]
    statuses = await asyncio.gather(*(site.put(permit, body) for body in bodies))
    assert sorted(statuses) == [201, 409, 409, 409]
    assert (await site.get(permit.url))[1] == bodies[statuses.index(201)]
    assert len(site.contents()) == 1


@pytest.mark.parametrize("token", ["", "x", "e30.e30", "WyJhIiwxLCJiIiwiIiw1LDllOSxudWxsXQ.AAAA", "x" * 6000])
async def test_s120_forged_tokens(site: Site, token: str) -> None:
    permit = await site.permit()
    assert await site.put(permit, token=token) in (400, 401, 403)
    assert (await site.get(permit.url))[0] == 404


async def test_s120_a_changed_token(site: Site) -> None:
    permit = await site.permit()
    for place in (3, permit.token.index(".") + 3):
        other = "A" if permit.token[place] != "A" else "B"
        assert await site.put(permit, token=permit.token[:place] + other + permit.token[place + 1 :]) == 403


async def test_s121_a_token_is_for_one_file(site: Site) -> None:
    one, other = await site.permit(), await site.permit(name="b.txt")
    assert await site.put(one, token=other.token) == 403
    assert await site.put(one, url=one.url.replace("a.txt", "b.html")) == 403
    assert await site.put(one, kind="text/html") == 403
    assert await site.put(one, kind="TEXT/plain; charset=utf-8") == 201


async def test_s121_a_token_lasts_five_minutes(site: Site) -> None:
    permit, late = await site.permit(), await site.permit()
    site.clock.advance(299)
    assert await site.put(permit) == 201
    site.clock.advance(2)
    assert await site.put(late) == 403


@pytest.mark.parametrize("ending", ["disable", "delete"])
async def test_s121_a_token_ends_with_the_account(site: Site, ending: str) -> None:
    permit = await site.permit()
    await getattr(site.server.accounts, ending)("alice@a.example")
    assert await site.put(permit) == 403
    assert site.contents() == []


async def test_s121_another_server_key(site: Site, tmp_path: Path) -> None:
    async with opened(tmp_path / "other") as elsewhere:
        permit = await elsewhere.permit()
        assert await site.put(permit, url=site.server.url + urlsplit(permit.url).path) == 403


async def test_s121_a_token_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as before:
        permit, used = await before.permit(), await before.permit()
        assert await before.put(used) == 201
    async with opened(tmp_path / "data") as after:
        assert await after.put(permit, url=after.server.url + urlsplit(permit.url).path) == 201
        assert await after.put(used, url=after.server.url + urlsplit(used.url).path) == 409


NAMES = {
    "../../../etc/passwd": "passwd",
    "..\\..\\evil.exe": "evil.exe",
    "/": "file",
    "..": "file",
    ".htaccess": "htaccess",
    "a\r\nSet-Cookie: x=1.txt": "aSet-Cookie x=1.txt",
    'q";filename=x.html': "q;filename=x.html",
    "\u202egpj.exe": "gpj.exe",
    "très cool.jpg": "très cool.jpg",
    "100% & #1?.txt": "100% & #1.txt",
    "%2e%2e%2fetc%2fpasswd": "%2e%2e%2fetc%2fpasswd",
    "名前.png": "名前.png",
    "x" * 900 + ".tar": "x" * 196 + ".tar",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_s122_names_of_files(site: Site, name: str) -> None:
    permit = await site.permit(name=name)
    assert permit.url.isascii()
    assert await site.put(permit) == 201
    status, body, headers = await site.get(permit.url)
    assert (status, body) == (200, b"hello")
    assert "Set-Cookie" not in headers
    disposition = aiohttp.multipart.parse_content_disposition(headers["Content-Disposition"])
    assert disposition[1]["filename*"] == NAMES[name]
    assert [path.name for path in site.folder.rglob("*") if NAMES[name] in path.name] == []


@pytest.mark.parametrize(
    "path",
    [
        "/files/../../parley.db",
        "/files/%2e%2e/%2e%2e/parley.db",
        "/files/..%2f..%2fparley.db/x",
        "/files/" + "0" * 32 + "/..%2f..%2fparley.db",
        "/files/" + "0" * 32 + "/%00",
        "/files/" + "0" * 31 + "%00/a",
        "/files/" + "A" * 32 + "/a",
        "/files/incoming/a",
        "/files/" + "0" * 32,
        "/files//etc/passwd",
    ],
)
async def test_s122_paths(site: Site, path: str) -> None:
    await site.put(await site.permit())
    for method in ("GET", "HEAD", "PUT"):
        answer = await site.raw(f"{method} {path} HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n")
        assert 400 <= int(answer.split()[1]) < 500, answer
        assert b"SQLite" not in answer


@pytest.mark.parametrize(
    ("kind", "served", "way"),
    [
        ("text/html", "application/octet-stream", "attachment"),
        ("application/xhtml+xml", "application/octet-stream", "attachment"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/xml", "application/octet-stream", "attachment"),
        ("text/javascript", "application/octet-stream", "attachment"),
        ("application/x-ecmascript", "application/octet-stream", "attachment"),
        ("text/css", "application/octet-stream", "attachment"),
        ("message/rfc822", "application/octet-stream", "attachment"),
        ("multipart/related", "application/octet-stream", "attachment"),
        ("application/pdf", "application/pdf", "attachment"),
        ("text/plain", "text/plain", "attachment"),
        ("application/octet-stream", "application/octet-stream", "attachment"),
        ("IMAGE/PNG", "image/png", "inline"),
        ("image/jpeg; charset=utf-7", "image/jpeg", "inline"),
        ("audio/ogg", "audio/ogg", "inline"),
        ("video/mp4", "video/mp4", "inline"),
    ],
)
async def test_s123_nothing_runs_in_a_browser(site: Site, kind: str, served: str, way: str) -> None:
    page = b"<html><script>alert(1)</script></html>"
    permit = await site.permit(len(page), kind, "page.html")
    assert await site.put(permit, page, kind=kind) == 201
    for wanted in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}):
        _, _, headers = await site.get(permit.url, **wanted)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert {"default-src 'none'", "sandbox"} <= {
            part.strip() for part in headers["Content-Security-Policy"].split(";")
        }
        assert headers["Content-Type"] == served
        assert headers["Content-Disposition"].startswith(way + ";")
        assert "Set-Cookie" not in headers
        assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    "kind", ["text/html\r\nX-Evil: 1", "html", "text/ html", "text/html; é", "é/é", "a" * 200 + "/b"]
)
async def test_s123_what_is_no_content_type_is_refused(site: Site, kind: str) -> None:
    status, _ = await site.server.call(
        "POST", "/v1/files?name=a", by="alice", headers={"Content-Type": kind.partition("\r")[0]}
    )
    assert status == 400


async def test_s123_files_have_a_host_of_their_own(tmp_path: Path) -> None:
    settings = UploadSettings(public_url="https://files.example", reserve=0)
    async with opened(tmp_path / "data", settings) as site:
        permit = await site.permit()
        assert permit.url.startswith("https://files.example/files/")
        local = site.server.url + urlsplit(permit.url).path
        own = {"Host": "files.example", "Authorization": f"Bearer {permit.token}", "Content-Type": "text/plain"}
        assert await site.put(permit, url=local) == 404
        async with site.server.http.put(local, data=b"hello", headers=own) as answer:
            assert answer.status == 201
        assert (await site.get(local))[0] == 404
        assert (await site.get(local, Host="a.example"))[0] == 404
        assert (await site.get(local, Host="Files.Example:443"))[:2] == (200, b"hello")


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=0-" + "9" * 18, 206, b"0123456789"),
        ("bytes=" + ",".join(f"{number}-" for number in range(1000)), 416, b""),
        ("bytes=0-1,3-4", 416, b""),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=-", 416, b""),
        ("bytes=" + "9" * 5000 + "-", 416, b""),
        ("bytes=a-b", 416, b""),
        ("pages=1-2", 200, b"0123456789"),
        ("", 200, b"0123456789"),
    ],
)
async def test_s124_ranges(site: Site, header: str, status: int, body: bytes) -> None:
    permit = await site.permit(10)
    await site.put(permit, b"0123456789")
    found = await site.get(permit.url, Range=header)
    assert found[:2] == (status, body)
    if status == 416:
        assert found[2]["Content-Range"] == "bytes */10"


@pytest.mark.parametrize("size", [MIB + 1, 2**31, 2**63, 10**300])
async def test_s125_absurd_sizes(site: Site, size: int) -> None:
    with pytest.raises(TooLarge):
        await site.permit(size)
    head = f"POST /v1/files HTTP/1.1\nHost: localhost\nAuthorization: Bearer {await site.server.token('alice')}\n"
    answer = await site.raw(f"{head}Content-Length: {size}\n\n")
    assert int(answer.split()[1]) in (400, 413)
    assert site.contents() == []


async def test_s126_slots_that_nobody_uses(site: Site) -> None:
    for _ in range(20):
        await site.permit()
    with pytest.raises(RateLimited) as refused:
        await site.permit()
    assert 0 < refused.value.retry_after <= 300
    status, problem = await site.server.call("POST", "/v1/files", {"a": 1}, by="alice")
    assert (status, problem["type"]) == (429, "urn:parley:problem:rate-limited")
    site.clock.advance(301)
    assert await site.put(await site.permit()) == 201


async def test_s126_slots_of_all_accounts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.MOST == 10_000
    monkeypatch.setattr(files, "MOST", 200)
    async with opened(tmp_path / "data", UploadSettings(slots_per_account=20_000, reserve=0)) as site:
        for _ in range(200):
            await site.permit()
        with pytest.raises(ResourceConstraint):
            await site.permit()


async def test_s126_quotas_count_what_is_promised(site: Site) -> None:
    for _ in range(3):
        await site.permit(MIB)
    with pytest.raises(RateLimited):
        await site.permit()
    site.clock.advance(301)
    for _ in range(3):
        assert await site.put(await site.permit(MIB), bytes(MIB)) == 201
    with pytest.raises(RateLimited) as refused:
        await site.permit()
    assert 0 < refused.value.retry_after <= DAY
    site.clock.advance(DAY)
    assert await site.put(await site.permit(MIB), bytes(MIB)) == 201
    with pytest.raises(RateLimited, match="All your files"):
        await site.permit()


async def test_s126_the_disk_is_not_filled(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", UploadSettings(reserve=2**60)) as site:
        with pytest.raises(ResourceConstraint):
            await site.permit()
        status, problem = await site.server.call("POST", "/v1/files", {"a": 1}, by="alice")
        assert (status, problem["type"]) == (507, "urn:parley:problem:storage-full")
        assert site.contents() == []


async def test_s127_nothing_looks_into_a_file(site: Site) -> None:
    """A bomb, a polyglot and a picture with a place come back as they were; there is nothing here that could decode them."""
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0" + bytes(1000)
    polyglot = b"GIF89a/*" + b"\0" * 100 + b"*/=1;alert(1)//PK\x03\x04"
    place = b"\xff\xd8\xff\xe1\0\x20Exif\0\0GPS 52.5 13.4" + bytes(100)
    for content in (bomb, polyglot, place):
        permit = await site.permit(len(content), "image/png")
        assert await site.put(permit, content, kind="image/png") == 201
        assert (await site.get(permit.url))[1] == content
    script = (
        "import sys, homeserver.app.server, homeserver.cli.serve;"
        "print(sorted({'PIL', 'cv2', 'imageio', 'wand', 'magic', 'av'} & set(sys.modules)))"
    )
    said = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert said.stdout == b"[]\n"


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/media/v3/download/other.example/abc",
        "/v1/media/other.example/abc",
        "/v1/files/https%3A%2F%2Fother.example%2Fa",
        "/files/https%3A%2F%2Fother.example%2Fa/x",
        "/proxy?url=https://other.example/a",
    ],
)
async def test_s128_files_of_other_servers_are_not_fetched(site: Site, path: str) -> None:
    status, _, _ = await site.get(site.server.url + path)
    assert status in (404, 405)
