"""Data forms (XEP-0004, XEP-0068) and result set paging (XEP-0059): reading and writing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, child, children, element, text_of

FORM_TAG: Final = f"{{{ns.DATA_FORM}}}x"
FORM_TYPE: Final = "FORM_TYPE"


class InvalidForm(ValueError):
    """The element is no form, or no page request, that the specification knows; becomes ``bad-request``."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form as somebody filled it in: its type ("submit", "cancel", "form", "result") and the values per ``var``."""

    type: str
    fields: dict[str, list[str]]

    @property
    def form_type(self) -> str:
        """What FORM_TYPE says (XEP-0068), "" where it is absent."""
        return self.first(FORM_TYPE)

    def first(self, var: str, default: str = "") -> str:
        """The first value of a field."""
        values = self.fields.get(var)
        return values[0] if values else default

    def flag(self, var: str, default: bool = False) -> bool:
        """A boolean field (XEP-0004 s3.3: "1" and "true", "0" and "false"). Raises `InvalidForm` for other text."""
        values = self.fields.get(var)
        if not values:
            return default
        if values[0] in ("1", "true"):
            return True
        if values[0] in ("0", "false"):
            return False
        raise InvalidForm(f"{var[:64]} is neither true nor false")


@dataclass(frozen=True, slots=True)
class Field:
    """One field to be shown: name, values, kind ("text-single", "boolean", ...), label, and options (value, label)."""

    var: str
    values: Sequence[str] = ()
    type: str = ""
    label: str = ""
    options: Sequence[tuple[str, str]] = ()
    is_required: bool = False
    description: str = ""
    extra: Sequence[Element] = field(default_factory=tuple)

    def to_element(self) -> Element:
        """``<field/>``."""
        attributes = {"var": self.var} if self.var else {}
        if self.type:
            attributes["type"] = self.type
        if self.label:
            attributes["label"] = self.label
        made = element(ns.DATA_FORM, "field", attributes)
        if self.description:
            made.append(element(ns.DATA_FORM, "desc", {}, self.description))
        if self.is_required:
            made.append(element(ns.DATA_FORM, "required"))
        made.extend(self.extra)
        for value in self.values:
            made.append(element(ns.DATA_FORM, "value", {}, value))
        for value, label in self.options:
            option = element(ns.DATA_FORM, "option", {"label": label} if label else {})
            option.append(element(ns.DATA_FORM, "value", {}, value))
            made.append(option)
        return made


def parse(form: Element) -> Form:
    """Read ``<x xmlns='jabber:x:data'/>``. A field without ``var`` is skipped; of two with one name the first counts.

    Raises `InvalidForm`.
    """
    if form.tag != FORM_TAG:
        raise InvalidForm("not a data form")
    kind = form.get("type", "submit")
    if kind not in ("submit", "cancel", "form", "result"):
        raise InvalidForm("unknown type of form")
    fields: dict[str, list[str]] = {}
    for one in children(form, ns.DATA_FORM, "field"):
        var = one.get("var")
        if var:
            fields.setdefault(var, [value.text or "" for value in children(one, ns.DATA_FORM, "value")])
    return Form(kind, fields)


def find(parent: Element, form_type: str | None = None) -> Form | None:
    """The first form among the children, or the first of that FORM_TYPE; None where there is none.

    Raises `InvalidForm`.
    """
    for found in children(parent, ns.DATA_FORM, "x"):
        form = parse(found)
        if form_type is None or form.form_type == form_type:
            return form
    return None


def build(
    kind: str,
    form_type: str = "",
    fields: Sequence[Field] = (),
    title: str = "",
    instructions: str = "",
) -> Element:
    """``<x type=kind/>``; with ``form_type`` the hidden FORM_TYPE comes first."""
    made = element(ns.DATA_FORM, "x", {"type": kind})
    if title:
        made.append(element(ns.DATA_FORM, "title", {}, title))
    if instructions:
        made.append(element(ns.DATA_FORM, "instructions", {}, instructions))
    if form_type:
        made.append(Field(FORM_TYPE, (form_type,), "" if kind == "submit" else "hidden").to_element())
    for one in fields:
        made.append(one.to_element())
    return made


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A request for a page (XEP-0059 s2).

    ``limit`` None: unsaid. ``before`` "" asks for the last page; None is unsaid. ``index`` counts from 0.
    """

    limit: int | None = None
    before: str | None = None
    after: str | None = None
    index: int | None = None


def page_query(parent: Element) -> PageQuery | None:
    """Read the ``<set/>`` child; None where there is none. Raises `InvalidForm`."""
    found = child(parent, ns.RESULT_SET, "set")
    if found is None:
        return None
    return PageQuery(
        _number(text_of(found, ns.RESULT_SET, "max")),
        text_of(found, ns.RESULT_SET, "before"),
        text_of(found, ns.RESULT_SET, "after") or None,
        _number(text_of(found, ns.RESULT_SET, "index")),
    )


def page_element(first: str = "", last: str = "", count: int | None = None, index: int | None = None) -> Element:
    """``<set/>`` of an answer: ids of the first and last item (both "" for an empty page), total, index of the first."""
    made = element(ns.RESULT_SET, "set")
    if first:
        attributes = {} if index is None else {"index": str(index)}
        made.append(element(ns.RESULT_SET, "first", attributes, first))
        made.append(element(ns.RESULT_SET, "last", {}, last))
    if count is not None:
        made.append(element(ns.RESULT_SET, "count", {}, str(count)))
    return made


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidForm("not a number")
    return int(text)
