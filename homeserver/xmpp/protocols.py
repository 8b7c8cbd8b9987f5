"""What the server speaks: ``docs/protocols.md`` and ``doap.xml``, written by ``python -m homeserver.xmpp.protocols``.

Features say it of themselves (`homeserver.xmpp.feature`); what is not a feature class stands in `ELSEWHERE`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from homeserver import xmpp
from homeserver.protocol import namespaces as ns
from homeserver.xmpp.documents import TITLES
from homeserver.xmpp.feature import DECLARATION, Declaration

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "protocols.md"
DOAP: Final = ROOT / "doap.xml"
SINCE: Final = "0.1.0"


@dataclass(frozen=True, slots=True)
class Support:
    """One document: its key in `TITLES`, the version that was read, its status, the file that obeys it.

    The status is ``complete``, ``partial``, or ``relayed``: what clients say to each other, passed on as it is and treated by
    a rule. ``note`` says what a partial one leaves out, and the rule. ``offered`` is the namespace that stream features
    name for it.
    """

    document: str
    version: str
    status: str
    file: str
    note: str = ""
    offered: str = ""


ELSEWHERE: Final = (
    Support("RFC 4422", "", "complete", "homeserver/protocol/sasl.py", offered=ns.SASL),
    Support("RFC 4616", "", "complete", "homeserver/protocol/sasl.py"),
    Support("RFC 5802", "", "complete", "homeserver/protocol/scram.py"),
    Support("RFC 5929", "", "partial", "homeserver/listeners.py", "tls-server-end-point"),
    Support("RFC 6120", "", "partial", "homeserver/protocol/c2s.py", "clients; no streams between servers", ns.BIND),
    Support("RFC 6121", "", "complete", "homeserver/xmpp/core_message.py", offered=ns.ROSTER_VERSIONING),
    Support("RFC 6415", "", "complete", "client_api/http/wellknown.py"),
    Support("RFC 6455", "", "complete", "client_api/http/socket.py"),
    Support("RFC 7395", "", "complete", "client_api/xmpp/websocket.py"),
    Support("RFC 7515", "", "partial", "homeserver/protocol/keydocs.py", "general JSON serialisation with EdDSA"),
    Support("RFC 7519", "", "partial", "homeserver/services/tokens.py", "HS256, made and checked by this server alone"),
    Support("RFC 7590", "", "complete", "homeserver/listeners.py"),
    Support("RFC 7622", "", "complete", "homeserver/protocol/jid.py"),
    Support("RFC 7677", "", "complete", "homeserver/protocol/scram.py"),
    Support("RFC 9421", "", "partial", "homeserver/protocol/signing.py", "one fixed profile: docs/federation.md"),
    Support("RFC 9457", "", "complete", "client_api/http/errors.py"),
    Support("RFC 9530", "", "partial", "homeserver/protocol/signing.py", "Content-Digest with sha-256"),
    Support("XEP-0004", "2.13.2", "complete", "homeserver/protocol/forms.py"),
    Support("XEP-0048", "1.2", "complete", "homeserver/services/bookmarks.py"),
    Support("XEP-0059", "1.0", "partial", "homeserver/xmpp/archive.py", "archives: a count for an empty page only, no index"),
    Support("XEP-0082", "1.1.1", "complete", "homeserver/xmpp/render.py"),
    Support("XEP-0084", "1.1.4", "complete", "homeserver/services/avatars.py"),
    Support("XEP-0147", "1.2", "partial", "homeserver/services/invites.py", "addresses of invitations"),
    Support("XEP-0122", "1.0.2", "partial", "homeserver/xmpp/archive.py", "open lists in the form of archive queries"),
    Support("XEP-0114", "1.6", "complete", "homeserver/protocol/component_stream.py"),
    Support("XEP-0124", "1.11.2", "complete", "homeserver/protocol/bosh.py"),
    Support("XEP-0128", "1.0.1", "complete", "homeserver/xmpp/catalogue.py"),
    Support("XEP-0206", "1.4", "complete", "client_api/xmpp/bosh.py"),
    Support("XEP-0153", "1.1.1", "complete", "homeserver/services/avatars.py"),
    Support("XEP-0156", "1.4.0", "complete", "client_api/http/wellknown.py"),
    Support("XEP-0172", "1.1", "complete", "homeserver/services/pubsub/service.py"),
    Support("XEP-0170", "1.0", "complete", "homeserver/protocol/features.py"),
    Support("XEP-0198", "1.6.3", "complete", "homeserver/protocol/sm.py", offered=ns.STREAM_MANAGEMENT),
    Support("XEP-0203", "2.0", "complete", "homeserver/xmpp/render.py"),
    Support("XEP-0297", "1.0", "complete", "homeserver/xmpp/render.py"),
    Support("XEP-0300", "1.0.0", "partial", "homeserver/protocol/caps.py", "names of hash functions in capabilities"),
    Support("XEP-0308", "1.2.1", "complete", "client_api/http/amendments.py", "as `replaces` in JSON"),
    Support("XEP-0333", "1.0.0", "complete", "homeserver/services/inbox.py", "read positions follow `<displayed/>`"),
    Support("XEP-0223", "1.1.1", "complete", "homeserver/services/pubsub/service.py"),
    Support("XEP-0222", "1.0", "complete", "homeserver/services/pubsub/service.py"),
    Support("XEP-0334", "1.0.0", "complete", "homeserver/xmpp/core_message.py"),
    Support("XEP-0352", "1.0.0", "complete", "homeserver/protocol/csi.py", offered=ns.CLIENT_STATE),
    Support("XEP-0359", "0.7.0", "complete", "homeserver/xmpp/render.py"),
    Support("XEP-0368", "1.1.0", "complete", "homeserver/listeners.py"),
    Support("XEP-0386", "1.1.0", "complete", "homeserver/protocol/binding.py"),
    Support("XEP-0388", "1.0.4", "complete", "homeserver/protocol/negotiation.py", offered=ns.SASL2),
    Support("XEP-0431", "0.2.0", "complete", "homeserver/xmpp/archive.py"),
    Support("XEP-0438", "0.2.0", "complete", "homeserver/protocol/scram.py"),
    Support(
        "XEP-0440", "1.0.0", "complete", "homeserver/protocol/features.py", offered=ns.SASL_CHANNEL_BINDING
    ),
    Support("XEP-0444", "0.2.1", "complete", "client_api/http/amendments.py", "as `reaction` in JSON"),
    Support("XEP-0445", "0.2.0", "complete", "homeserver/xmpp/registration.py"),
    Support("XEP-0453", "0.1.2", "complete", "homeserver/xmpp/protocols.py"),
    Support("XEP-0461", "0.2.1", "complete", "homeserver/protocol/events_json.py", "as `reply_to` in JSON"),
    Support("XEP-0469", "0.1.0", "complete", "homeserver/services/bookmarks.py"),
    Support("XEP-0474", "0.5.0", "complete", "homeserver/protocol/scram.py"),
    Support("XEP-0478", "0.2.0", "complete", "homeserver/protocol/features.py", offered=ns.STREAM_LIMITS),
    Support("XEP-0480", "0.2.0", "complete", "homeserver/protocol/upgrade.py"),
    Support("XEP-0484", "0.2.0", "complete", "homeserver/protocol/fast.py", offered=ns.FAST),
)  # fmt: skip
"""What is spoken outside of feature classes."""

_RULES: Final = "homeserver/xmpp/core_message.py"
_OMEMO: Final = "{}; content without a body: stored, copied, wakes; keys are nodes of the account"
RELAYED: Final = (
    Support("XEP-0066", "1.5", "relayed", _RULES, "content; beside a body it changes nothing"),
    Support("XEP-0085", "2.1", "relayed", _RULES, "copied, never stored; dropped for a client that is not looked at"),
    Support("XEP-0106", "1.1.1", "relayed", "homeserver/protocol/jid.py", "escaped characters are part of the name"),
    Support("XEP-0184", "1.4.0", "relayed", _RULES, "stored and copied, wake nobody"),
    Support("XEP-0319", "1.0.2", "relayed", "homeserver/services/presence.py", "stays in the presence it came in"),
    Support("XEP-0353", "0.8.0", "relayed", _RULES, "stored and copied; a proposal wakes devices at once"),
    Support("XEP-0372", "0.5.0", "relayed", _RULES, "content"),
    Support("XEP-0380", "0.4.0", "relayed", _RULES, "content without a body: stored, copied, wakes"),
    Support("XEP-0384", "0.9.1", "relayed", _RULES, _OMEMO.format(ns.OMEMO)),
    Support("XEP-0384", "0.3.0", "relayed", _RULES, _OMEMO.format(ns.OMEMO_LEGACY)),
    Support("XEP-0420", "0.5.0", "relayed", _RULES, "what is inside stays closed; treated as the encryption around it"),
    Support("XEP-0428", "0.2.1", "relayed", _RULES, "content"),
)
"""What clients say to each other, where the server has a rule for it or a client may wonder."""

_PAGE_HEAD: Final = """# Protocols

Written from the declarations in the code by `python -m homeserver.xmpp.protocols`. The same is in
[doap.xml](../doap.xml). A test compares the features named here with what a running server advertises.

*Partial* says in the note what there is or what is missing. *Relayed* is what clients say to each other: it passes as it
is, and the note says how it is treated (which messages are stored, copied or wake a device is in
[deviations.md](deviations.md#chosen)); what is not listed passes too. What differs from a specification is in
[deviations.md](deviations.md); which compliance suites this makes is in [compliance.md](compliance.md).

"""
_DOAP_HEAD: Final = f"""<?xml version='1.0' encoding='UTF-8'?>
<!-- Written by python -m homeserver.xmpp.protocols -->
<rdf:RDF xmlns:rdf='{ns.RDF}' xmlns='{ns.DOAP}' xmlns:xmpp='{ns.XMPP_DOAP}'>
  <Project>
    <name>Parley</name>
    <shortdesc xml:lang='en'>A federated chat homeserver: XMPP and JSON for clients, signed HTTP between servers</shortdesc>
    <programming-language>Python</programming-language>
    <license rdf:resource='https://spdx.org/licenses/Apache-2.0'/>
"""
_DOAP_TAIL: Final = "  </Project>\n</rdf:RDF>\n"


def feature_classes() -> Iterator[type]:
    """Every feature class of this package, by module and name."""
    for module in pkgutil.iter_modules(xmpp.__path__):
        name = f"{xmpp.__name__}.{module.name}"
        if name == __name__ or module.name == "__main__":
            continue
        for found in vars(importlib.import_module(name)).values():
            if isinstance(found, type) and found.__module__ == name and DECLARATION in vars(found):
                yield found


def declared(found: type) -> Declaration:
    """What a feature class says of itself."""
    declaration = getattr(found, DECLARATION)
    assert isinstance(declaration, Declaration)
    return declaration


def supports() -> list[Support]:
    """All that is spoken, by document and file."""
    every = [*ELSEWHERE, *RELAYED]
    for found in feature_classes():
        declaration = declared(found)
        document = declaration.rfc or f"XEP-{declaration.xep:04}"
        version = "" if declaration.rfc else declaration.version
        every.append(Support(document, version, declaration.status, f"{found.__module__.replace('.', '/')}.py"))
    return sorted(every, key=lambda support: (support.document, support.file))


def advertised() -> dict[str, tuple[set[str], set[str]]]:
    """By document: the features that a domain and that an account names in service discovery."""
    told: dict[str, tuple[set[str], set[str]]] = {}
    for found in feature_classes():
        declaration = declared(found)
        domain, account = told.setdefault(declaration.rfc or f"XEP-{declaration.xep:04}", (set(), set()))
        domain.update(declaration.disco)
        account.update(declaration.account_disco)
    return told


def page() -> str:
    """The text of ``docs/protocols.md``."""
    rows = ["| document | title | version | status | file | note |", "|---|---|---|---|---|---|"]
    for one in supports():
        link = f"[{one.document}]({_address(one.document)})"
        rows.append(f"| {link} | {TITLES[one.document]} | {one.version} | {one.status} | `{one.file}` | {one.note} |")
    rows += ["", "## Service discovery", "", "| document | a domain names | an account names |", "|---|---|---|"]
    for document, told in sorted(advertised().items()):
        if any(told):
            rows.append(
                f"| {document} | {' | '.join('<br>'.join(f'`{name}`' for name in sorted(one)) for one in told)} |"
            )
    return _PAGE_HEAD + "\n".join(rows) + "\n"


def doap() -> str:
    """The text of ``doap.xml``."""
    best: dict[str, Support] = {}
    for one in supports():
        if one.document not in best or one.status == "partial":
            best[one.document] = one
    return _DOAP_HEAD + "".join(_implements(one) for one in best.values()) + _DOAP_TAIL


def _implements(one: Support) -> str:
    address = _address(one.document)
    if not one.document.startswith("XEP"):
        return f"    <implements rdf:resource='{address}'/>\n"
    # The vocabulary has no word for what passes through (XEP-0453 s4).
    status, text = ("complete", f"relayed: {one.note}") if one.status == "relayed" else (one.status, one.note)
    note = f"\n        <xmpp:note>{escape(text)}</xmpp:note>" if text else ""
    return (
        f"    <implements>\n      <xmpp:SupportedXep>\n        <xmpp:xep rdf:resource='{address}'/>\n"
        f"        <xmpp:status>{status}</xmpp:status>\n        <xmpp:version>{one.version}</xmpp:version>\n"
        f"        <xmpp:since>{SINCE}</xmpp:since>{note}\n      </xmpp:SupportedXep>\n    </implements>\n"
    )


def _address(document: str) -> str:
    kind, number = document.replace("-", " ").split()
    if kind == "XEP":
        return f"https://xmpp.org/extensions/xep-{number}.html"
    return f"https://www.rfc-editor.org/info/rfc{number}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DOAP.write_text(doap(), encoding="utf-8")
