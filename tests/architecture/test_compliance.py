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

NOT_YET = {
    "XEP-0114", "XEP-0033", "XEP-0133", "XEP-0054", "XEP-0084", "XEP-0153", "XEP-0292", "XEP-0398", "XEP-0172", "XEP-0048",
    "XEP-0049", "XEP-0402", "XEP-0411", "XEP-0222", "XEP-0223",
}  # fmt: skip
"""Expected documents that the declarations lack."""

EXPECTED = frozenset(
    f"XEP-{number:04}"
    for number in (
        *(
            4,
            12,
            30,
            33,
            48,
            49,
            50,
            54,
            55,
            59,
            60,
            66,
            77,
            82,
            84,
            85,
            92,
            106,
            114,
            115,
            122,
            124,
            128,
            133,
            147,
            153,
        ),
        *(156, 157, 160, 163, 170, 172, 184, 191, 198, 199, 202, 203, 206, 215, 222, 223, 280, 292, 297, 300, 308, 313),
        *(319, 333, 334, 352, 353, 357, 359, 363, 368, 372, 377, 379, 380, 384, 386, 388, 398, 401, 402, 411, 420, 424),
        *(428, 430, 431, 438, 440, 441, 444, 445, 453, 461, 474, 478, 480, 484, 490),
    )
)
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
    waiting = NOT_YET.intersection(line.documents)
    is_open = (line.suite, line.feature) in OPEN or bool(waiting)
    assert (line.state == compliance.OPEN) == is_open, line.lacking
    assert line.proofs or is_open
    for proof in () if waiting else line.proofs:
        path, _, name = proof.partition("::")
        assert (ROOT / "tests" / path).exists(), proof
        assert name in defined(path), proof


def test_every_expected_document_is_declared() -> None:
    declared = {one.document: one for one in protocols.supports() if one.document.startswith("XEP")}
    assert EXPECTED - set(declared) == NOT_YET
    assert set(declared) <= EXPECTED
    assert all(one.version and one.status for one in declared.values())


def test_what_is_named_besides_has_a_title() -> None:
    for named in (*compliance.NOT_REQUIRED, *compliance.FUTURE):
        assert named.document in TITLES
        assert named.note or compliance.status_of(named.document) or named.document in NOT_YET, named
