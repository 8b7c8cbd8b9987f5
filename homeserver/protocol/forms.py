"""Data forms (XEP-0004)."""

from dataclasses import dataclass, field

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, children


@dataclass(slots=True)
class Form:
    type: str = "submit"
    fields: dict[str, list[str]] = field(default_factory=dict)


def parse(form: Element) -> Form:
    fields: dict[str, list[str]] = {}
    for found in children(form, ns.DATA_FORM, "field"):
        fields[found.get("var", "")] = [v.text or "" for v in children(found, ns.DATA_FORM, "value")]
    return Form(form.get("type", ""), fields)
