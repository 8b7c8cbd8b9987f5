"""Files of JSON clients."""

import aiohttp
import pytest

from tests.kit.json_server import JsonServer

FORM = {"Content-Type": "multipart/form-data; boundary=bb"}


@pytest.mark.parametrize("path", ["/v1/files", "/upload-file"])
async def test_a_form_and_a_body_become_files(server: JsonServer, path: str) -> None:
    headers = {"Authorization": f"Bearer {await server.token('alice')}"}
    form = aiohttp.FormData()
    form.add_field("note", "ignored")
    form.add_field("file", b"x" * 300_000, filename="b.png", content_type="image/png")
    async with server.http.post(server.url + path, data=form, headers=headers) as answer:
        assert answer.status == 201
        made = await answer.json()
    async with server.http.get(made["url"]) as answer:
        assert await answer.read() == b"x" * 300_000
        assert answer.headers["Content-Type"] == "image/png"
    raw = headers | {"Content-Type": "audio/ogg"}
    async with server.http.post(f"{server.url}{path}?name=a.ogg", data=b"sound", headers=raw) as answer:
        second = await answer.json()
    _, usage = await server.call("GET", "/v1/files/usage", by="alice")
    assert (usage["files"], usage["bytes"]) == (2, 300_005)
    assert (await server.call("DELETE", f"/v1/files/{second['file_id']}", by="bob"))[0] == 404
    assert (await server.call("DELETE", f"/v1/files/{second['file_id']}", by="alice"))[0] == 204
    async with server.http.get(second["url"]) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--bb\r\n--bb--\r\n",
        b"--bb\r\nbad header\r\n\r\nx\r\n--bb--",
        b"--bb\r\n" + b"A: b\r\n" * 5000 + b"\r\nabc\r\n--bb--\r\n",
        b"--bb\r\nContent-Disposition: form-data; name=f\r\n\r\nabc\r\n--bb--\r\n",
        b"--bb\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\n\r\n--bb--\r\n",
    ],
)
async def test_forms_that_cannot_be_read(server: JsonServer, body: bytes) -> None:
    headers = FORM | {"Authorization": f"Bearer {await server.token('alice')}"}
    async with server.http.post(server.url + "/v1/files", data=body, headers=headers) as answer:
        assert answer.status == 400
    assert (await server.call("GET", "/v1/files/usage", by="alice"))[1]["files"] == 0
