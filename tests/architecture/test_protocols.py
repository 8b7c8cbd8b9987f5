"""What the code says it speaks is built, is on the page, and refers to documents that exist."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from homeserver.app.xmpp import FEATURES
from homeserver.protocol import namespaces as ns
from homeserver.xmpp import protocols
from homeserver.xmpp.documents import TITLES

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(r"\b(XEP-\d{4}|RFC \d{3,5})\b")
SECTION = re.compile(r"\b(?:XEP-\d{4}|RFC \d{3,5}) (s\S*)")
SECTION_FORM = re.compile(r"s(\d+|[A-Z])(\.\d+)*")
MISSPELT = re.compile(r"\b(?:XEP \d|XEP-\d{1,3}\b|RFC\d|RFC-\d|xep-?\d{4}(?!\S*\.html)|rfc \d)")


def tracked(*patterns: str) -> Iterator[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).exists() and Path(name) != Path(__file__).relative_to(ROOT):
            yield name, (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("file", "made"), [(protocols.PAGE, protocols.page), (protocols.DOAP, protocols.doap)])
def test_what_is_written_is_not_stale(file: Path, made) -> None:
    assert file.read_text(encoding="utf-8") == made(), "run python -m homeserver.xmpp.protocols"


def test_every_feature_that_exists_is_built() -> None:
    assert set(protocols.feature_classes()) == set(FEATURES)


def test_what_is_named_exists() -> None:
    for support in protocols.supports():
        assert (ROOT / support.file).exists(), support
        assert support.document in TITLES, support
        assert support.status in ("complete", "partial", "relayed"), support
        assert support.version or support.document.startswith("RFC"), support
        assert support.note or support.status == "complete", f"{support.document} does not say what it leaves out"


def test_doap_is_well_formed_and_names_every_document_once() -> None:
    project = ElementTree.fromstring(protocols.doap())[0]
    named = [
        link.get(f"{{{ns.RDF}}}resource")
        for link in project.iter()
        if link.tag == f"{{{ns.XMPP_DOAP}}}xep" or (link.tag == f"{{{ns.DOAP}}}implements" and not len(link))
    ]
    assert len(named) == len(set(named)) == len({support.document for support in protocols.supports()})


def faults(text: str) -> list[str]:
    """References to unknown documents, and references that are not written like the others."""
    found = [name for name in REFERENCE.findall(text) if name not in TITLES]
    found += [s for s in SECTION.findall(text) if s[1:2].isdigit() and not SECTION_FORM.match(s)]
    return found + MISSPELT.findall(text)


def test_references_are_to_known_documents() -> None:
    wrong = {name: found for name, text in tracked("*.py", "*.md") if (found := faults(text))}
    assert wrong == {}


@pytest.mark.parametrize("text", ["see XEP-9999 s1", "RFC 99999", "XEP 0198", "RFC6120", "XEP-198"])
def test_a_planted_reference_is_found(text: str) -> None:
    assert faults(text)
