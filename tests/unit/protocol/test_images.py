"""What a picture is, by its first bytes."""

import pytest

from homeserver.protocol.images import media_type


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 8, "image/png"),
        (b"\xff\xd8\xff\xe0JFIF", "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (b"GIF89a..", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"<html><script>", None),
        (b"%PDF-1.7", None),
        (b"BM......", None),
        (b"", None),
    ],
)
def test_s127_only_these_are_pictures(data: bytes, kind: str | None) -> None:
    assert media_type(data) == kind
