"""vCards in their two shapes: vcard-temp (XEP-0054) and vCard4 (XEP-0292, RFC 6351).

`to_vcard4` and `to_temp` carry over the fields that both have and keep what the other shape cannot say. Pictures are no
matter of these: they are published as avatars.
"""

from collections.abc import Callable, Iterable
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, children, element, serialise, text_of

_NAMES: Final = (
    ("FAMILY", "surname"),
    ("GIVEN", "given"),
    ("MIDDLE", "additional"),
    ("PREFIX", "prefix"),
    ("SUFFIX", "suffix"),
)
_ADDRESS: Final = (
    ("POBOX", "pobox"),
    ("EXTADD", "ext"),
    ("STREET", "street"),
    ("LOCALITY", "locality"),
    ("REGION", "region"),
    ("PCODE", "code"),
    ("CTRY", "country"),
)
_TYPES: Final = (
    ("HOME", "home"),
    ("WORK", "work"),
    ("VOICE", "voice"),
    ("FAX", "fax"),
    ("CELL", "cell"),
    ("PAGER", "pager"),
    ("VIDEO", "video"),
    ("MSG", "text"),
)
_TEL: Final = "tel:"


def _temp(name: str, *content: Element | str) -> Element:
    return element(ns.VCARD, name, None, *content)


def _four(name: str, *content: Element | str) -> Element:
    return element(ns.VCARD4, name, None, *content)


# --- from vcard-temp ----------------------------------------------------------------------------------------------------


def _valued(kind: str) -> Callable[[Element], list[Element]]:
    def convert(field: Element) -> list[Element]:
        text = (field.text or "").strip()
        return [_four(kind, text)] if text else []

    return convert


def _parts(pairs: Iterable[tuple[str, str]]) -> Callable[[Element], list[Element]]:
    names = tuple(pairs)

    def convert(field: Element) -> list[Element]:
        made = [_four(four, text_of(field, ns.VCARD, temp) or "") for temp, four in names]
        return made if any(part.text for part in made) else []

    return convert


def _email(field: Element) -> list[Element]:
    text = text_of(field, ns.VCARD, "USERID") or ""
    return [_four("text", text)] if text else []


def _phone(field: Element) -> list[Element]:
    number = (text_of(field, ns.VCARD, "NUMBER") or "").strip()
    return [_four("text", number)] if number else []


def _organisation(field: Element) -> list[Element]:
    names = [
        text_of(field, ns.VCARD, "ORGNAME") or "",
        *(unit.text or "" for unit in children(field, ns.VCARD, "ORGUNIT")),
    ]
    return [_four("text", name) for name in names] if any(names) else []


# --- from vCard4 --------------------------------------------------------------------------------------------------------


def _value(field: Element) -> str:
    """The one value of a vCard4 property, whatever its type."""
    for part in field:
        if part.tag != f"{{{ns.VCARD4}}}parameters" and part.text:
            return part.text.strip()
    return ""


def _plain(field: Element) -> list[Element | str]:
    text = _value(field)
    return [text] if text else []


def _parts_back(pairs: Iterable[tuple[str, str]]) -> Callable[[Element], list[Element | str]]:
    names = tuple(pairs)

    def convert(field: Element) -> list[Element | str]:
        return [_temp(temp, text) for temp, four in names if (text := text_of(field, ns.VCARD4, four))]

    return convert


def _email_back(field: Element) -> list[Element | str]:
    text = _value(field)
    return [_temp("INTERNET"), _temp("USERID", text)] if text else []


def _phone_back(field: Element) -> list[Element | str]:
    number = _value(field).removeprefix(_TEL)
    return [_temp("NUMBER", number)] if number else []


def _organisation_back(field: Element) -> list[Element | str]:
    names = [part.text or "" for part in children(field, ns.VCARD4, "text")]
    return [_temp("ORGNAME" if place == 0 else "ORGUNIT", name) for place, name in enumerate(names)]


_FIELDS: Final[
    dict[str, tuple[str, Callable[[Element], list[Element]], Callable[[Element], list[Element | str]], bool]]
] = {
    "FN": ("fn", _valued("text"), _plain, False),
    "N": ("n", _parts(_NAMES), _parts_back(_NAMES), False),
    "NICKNAME": ("nickname", _valued("text"), _plain, False),
    "BDAY": ("bday", _valued("date"), _plain, False),
    "ADR": ("adr", _parts(_ADDRESS), _parts_back(_ADDRESS), True),
    "TEL": ("tel", _phone, _phone_back, True),
    "EMAIL": ("email", _email, _email_back, True),
    "TITLE": ("title", _valued("text"), _plain, False),
    "ROLE": ("role", _valued("text"), _plain, False),
    "ORG": ("org", _organisation, _organisation_back, False),
    "URL": ("url", _valued("uri"), _plain, False),
    "NOTE": ("note", _valued("text"), _plain, False),
}
"""By name in vcard-temp: the name in vCard4, both ways, and whether it says where it is good for (home, work ...)."""
_SHARED_TEMP: Final = frozenset(f"{{{ns.VCARD}}}{name}" for name in _FIELDS)
_SHARED_FOUR: Final = {f"{{{ns.VCARD4}}}{four}": name for name, (four, *_) in _FIELDS.items()}
_PHOTO: Final = f"{{{ns.VCARD}}}PHOTO"
_DESC: Final = f"{{{ns.VCARD}}}DESC"


def to_vcard4(temp: Element, before: Element | None) -> Element:
    """The vCard4 of a ``<vCard/>``, with what only vCard4 has taken from the one ``before``."""
    made = _four("vcard")
    fields = [part for part in temp if part.tag in _SHARED_TEMP]
    if child(temp, ns.VCARD, "NOTE") is None:
        # What people write about themselves is in DESC with many clients; vCard4 has no such field.
        fields.extend(_temp("NOTE", part.text or "") for part in temp if part.tag == _DESC)
    for field in fields:
        name, convert, _, has_types = _FIELDS[field.tag[len(ns.VCARD) + 2 :]]
        content = convert(field)
        if content:
            made.append(_four(name, *(_types(field) if has_types else ()), *content))
    made.extend(part for part in (before if before is not None else ()) if part.tag not in _SHARED_FOUR)
    return made


def to_temp(four: Element, before: Element | None) -> Element:
    """The ``<vCard/>`` of a vCard4, with what only vcard-temp has taken from the one ``before``.

    Where both say the same already, that is ``before`` as it is.
    """
    if before is not None and _said(to_vcard4(before, four)) == _said(four):
        return before
    made = _temp("vCard")
    noted = False
    for field in four:
        name = _SHARED_FOUR.get(field.tag)
        if name is None:
            continue
        content = _FIELDS[name][2](field)
        if content:
            noted = noted or name == "NOTE"
            made.append(_temp(name, *(_types_back(field) if _FIELDS[name][3] else ()), *content))
    for part in before if before is not None else ():
        if part.tag not in _SHARED_TEMP and not (part.tag == _DESC and child(four, ns.VCARD4, "note") is not None):
            made.append(part)
    return made


def photo_of(temp: Element) -> Element | None:
    """The ``<PHOTO/>`` of a ``<vCard/>`` that has content."""
    found = temp.find(_PHOTO)
    return found if found is not None and (text_of(found, ns.VCARD, "BINVAL") or "").strip() else None


def has_picture_elsewhere(temp: Element) -> bool:
    """Whether the picture is a link, which is left to clients (XEP-0153 s4.5)."""
    return any(child(part, ns.VCARD, "EXTVAL") is not None for part in children(temp, ns.VCARD, "PHOTO"))


def without_photo(temp: Element) -> Element:
    """The ``<vCard/>`` less pictures that were sent along."""
    made = _temp("vCard")
    made.extend(part for part in temp if not (part.tag == _PHOTO and child(part, ns.VCARD, "EXTVAL") is None))
    return made


def with_photo(temp: Element | None, media_type: str, encoded: str) -> Element:
    """A ``<vCard/>`` with this picture (XEP-0153 s3.1); ``encoded`` is base64."""
    made = _temp("vCard")
    made.extend(part for part in (temp if temp is not None else ()) if part.tag != _PHOTO)
    made.append(_temp("PHOTO", _temp("TYPE", media_type), _temp("BINVAL", encoded)))
    return made


def _types(field: Element) -> list[Element]:
    types = [_four("text", four) for temp, four in _TYPES if child(field, ns.VCARD, temp) is not None]
    pref = child(field, ns.VCARD, "PREF") is not None
    if not types and not pref:
        return []
    made = _four("parameters")
    if types:
        made.append(_four("type", *types))
    if pref:
        made.append(_four("pref", _four("integer", "1")))
    return [made]


def _types_back(field: Element) -> list[Element]:
    parameters = child(field, ns.VCARD4, "parameters")
    if parameters is None:
        return []
    kinds = child(parameters, ns.VCARD4, "type")
    said = {part.text for part in (kinds if kinds is not None else ())}
    made = [_temp(temp) for temp, four in _TYPES if four in said]
    if child(parameters, ns.VCARD4, "pref") is not None:
        made.append(_temp("PREF"))
    return made


def _said(four: Element) -> list[str]:
    """What a vCard4 says in the shared fields, to be compared."""
    found = []
    for field in four:
        name = _SHARED_FOUR.get(field.tag)
        if name is not None:
            back = _FIELDS[name][2](field)
            if back:
                found.append(serialise(_temp(name, *(_types_back(field) if _FIELDS[name][3] else ()), *back), ""))
    return sorted(found)
