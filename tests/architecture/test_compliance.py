"""The page on compliance is fresh, its lines are those of the suites, and what it says is proven."""

import pytest

from homeserver.xmpp import protocols
from homeserver.xmpp.documents import TITLES
from tests import compliance
from tests.architecture.test_threats import ROOT, defined

SUITES = """
Core | Core features | yes yes | RFC 6120
Core | TLS | yes yes | RFC 7590
Core | Direct TLS | no yes | XEP-0368
Core | Feature discovery | yes yes | XEP-0030
Core | Feature broadcasts | no yes | XEP-0115
Core | Server Extensibility | yes yes | XEP-0114
Core | Event publishing | no yes | XEP-0163
Web | Web Connection Mechanisms | yes yes | RFC 7395, XEP-0206, XEP-0124
IM | Core features | yes yes | RFC 6121
IM | User Avatar Compatibility | no yes | XEP-0398, XEP-0153
IM | vcard-temp | yes yes | XEP-0054
IM | Outbound Message Synchronization | yes yes | XEP-0280
IM | User Blocking | no yes | XEP-0191
IM | Group Chat | yes yes | XEP-0045, XEP-0249
IM | Advanced Group Chat | no yes | XEP-0048, XEP-0313, XEP-0402, XEP-0410
IM | Persistent Storage of Private Data via PubSub | no yes | XEP-0223
IM | Private XML Storage | no yes | XEP-0049
IM | Stream Management | no yes | XEP-0198
IM | History Storage / Retrieval | no yes | XEP-0313
IM | File Upload | yes yes | XEP-0363
Mobile | Stream Management | yes yes | XEP-0198
Mobile | Client State Indication | yes yes | XEP-0352
Mobile | Third Party Push Notifications | no yes | XEP-0357
A/V | STUN/TURN server discovery | yes yes | XEP-0215
"""
"""XEP-0479 s2 as it is written: suite, feature, columns "Server" and "Advanced Server", providers. Lines that are not for
servers (N/A or no in both columns) are left out."""

OPEN = {("Core", "Core features"), ("IM", "Group Chat"), ("IM", "Advanced Group Chat")}
"""What is not met. Everything else has to be."""

EXPECTED = {
    f"XEP-{number}"
    for line in (
        "0004 0012 0030 0033 0048 0049 0050 0054 0055 0059 0060 0066 0077 0082 0084 0085 0092 0106 0114 0115 0122 0124",
        "0128 0133 0147 0153 0156 0157 0160 0163 0170 0172 0184 0191 0198 0199 0202 0203 0206 0215 0222 0223 0280 0292",
        "0297 0300 0308 0313 0319 0333 0334 0352 0353 0357 0359 0363 0368 0372 0377 0379 0380 0384 0386 0388 0398 0401",
        "0402 0411 0420 0424 0428 0430 0431 0438 0440 0441 0444 0445 0453 0461 0469 0474 0478 0480 0484 0490",
    )
    for number in line.split()
}
"""What the page on protocols has to name, with version and status. Not XEP-0045: there are no group chats."""


def test_the_page_is_fresh() -> None:
    assert compliance.PAGE.read_text(encoding="utf-8") == compliance.page(), "run python -m tests.compliance"


def test_lines_are_those_of_the_suites() -> None:
    told = []
    for line in compliance.LINES:
        columns = {compliance.BOTH: "yes yes", compliance.ADVANCED: "no yes"}[line.level]
        told.append(f"{line.suite} | {line.feature} | {columns} | {', '.join(line.documents)}")
    assert told == SUITES.split("\n")[1:-1]


@pytest.mark.parametrize("line", compliance.LINES, ids=lambda line: f"{line.suite}-{line.feature}")
def test_a_line_is_green_and_proven(line: compliance.Line) -> None:
    is_open = (line.suite, line.feature) in OPEN
    assert (line.state == compliance.OPEN) == is_open, line.lacking
    assert line.proofs or is_open
    for proof in line.proofs:
        path, _, name = proof.partition("::")
        assert (ROOT / "tests" / path).exists(), proof
        assert name in defined(path), proof


def test_every_expected_document_is_declared() -> None:
    declared = {one.document: one for one in protocols.supports() if one.document.startswith("XEP")}
    assert set(declared) == EXPECTED
    assert all(one.version and one.status for one in declared.values())


def test_what_is_named_besides_has_a_title() -> None:
    for named in (*compliance.NOT_REQUIRED, *compliance.FUTURE):
        assert named.document in TITLES
        assert named.note or compliance.status_of(named.document), named
