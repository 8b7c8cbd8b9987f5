"""Ad-hoc commands as a client runs them."""

from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from homeserver.protocol import namespaces as ns
from tests.kit.fakes import FakeSession
from tests.kit.world import World

ADMIN = ns.ADMIN + "#"
OURS = ns.PARLEY_COMMANDS + "#"


def filled(fields: dict[str, str | list[str]]) -> str:
    """A form to submit."""
    inner = ""
    for var, given in fields.items():
        values = given if isinstance(given, list) else [given]
        inner += f"<field var='{var}'>" + "".join(f"<value>{escape(one)}</value>" for one in values) + "</field>"
    return f"<x xmlns='{ns.DATA_FORM}' type='submit'>{inner}</x>"


async def step(
    server: World, session: FakeSession, node: str, content: str = "", sessionid: str = "", to: str = "a.example"
) -> Element:
    """One request; the answer's stanza."""
    attributes = f"node={quoteattr(node)}" + (f" sessionid='{sessionid}'" if sessionid else "")
    body = f"<command xmlns='{ns.COMMANDS}' {attributes}>{content}</command>"
    return await server.iq(session, f"<iq type='set' id='c' to='{to}'>{body}</iq>")


async def run(
    server: World, session: FakeSession, node: str, to: str = "a.example", **fields: str | list[str]
) -> Element:
    """The whole command: the first step, and where that asks for a form, the second. The last answer's stanza."""
    first = await step(server, session, node, to=to)
    if first.get("type") == "error" or first[0].get("status") != "executing":
        return first
    return await step(server, session, node, filled(fields), first[0].get("sessionid", ""), to)


def said(answer: Element) -> str:
    """The condition of a refusal, or the note of a command that completed."""
    error = answer.find(f"{{{ns.CLIENT}}}error")
    if error is not None:
        return error[0].tag.rpartition("}")[2]
    assert answer[0].get("status") == "completed"
    note = answer[0].find(f"{{{ns.COMMANDS}}}note")
    return "" if note is None else note.text or ""


def shown(answer: Element) -> dict[str, list[str]]:
    """The fields of the form in an answer, less its type."""
    form = answer[0].find(f"{{{ns.DATA_FORM}}}x")
    assert form is not None, said(answer)
    made = {}
    for one in form.findall(f"{{{ns.DATA_FORM}}}field"):
        made[one.get("var", "")] = [value.text or "" for value in one.findall(f"{{{ns.DATA_FORM}}}value")]
    assert made.pop("FORM_TYPE") == [ns.ADMIN]
    return made
