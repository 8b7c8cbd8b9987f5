"""Forms of service administration (XEP-0133), filled in and answered."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from homeserver.domain.errors import JidMalformed, NotFound
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import Element
from homeserver.xmpp.commands import Ask, Call, Done, bad

ACCOUNT: Final = forms.Field("accountjid", type="jid-single", label="Address of the account", is_required=True)
ACCOUNTS: Final = forms.Field("accountjids", type="jid-multi", label="Addresses of accounts", is_required=True)
MOST_LISTED: Final = 1000
"""Addresses in one answer, whatever is asked for."""
MAX_ITEMS: Final = forms.Field(
    "max_items",
    type="list-single",
    label="How many to show",
    options=[(number, number) for number in ("25", "50", "75", "100", "150", "200")] + [("none", "All")],
)


def ask(title: str, *fields: forms.Field) -> Ask:
    """The form of a command's only step."""
    return Ask(forms.build("form", ns.ADMIN, fields, title))


def result(*fields: forms.Field) -> Element:
    """What a command found."""
    return forms.build("result", ns.ADMIN, fields)


def found(*fields: forms.Field) -> Done:
    """The end of a command that asks for something."""
    return Done(form=result(*fields))


def account_of(call: Call) -> JID:
    """The one account that was filled in. Raises as `accounts_of` does."""
    return _account(call, call.value("accountjid"))


def accounts_of(call: Call) -> list[JID]:
    """The accounts that were filled in; all are of the domain that was asked.

    Raises `BadRequest` where there is none, `JidMalformed`, `NotFound`.
    """
    call.value("accountjids")
    return [_account(call, text) for text in values(call, "accountjids")]


def values(call: Call, var: str) -> list[str]:
    """The values of a field, less empty ones."""
    given = [] if call.form is None else call.form.fields.get(var, [])
    return [text.strip() for text in given if text.strip()]


def addresses_of(call: Call, var: str) -> list[JID]:
    """The accounts in another field than the usual one; maybe none."""
    return [_account(call, text) for text in values(call, var)]


def text_of(call: Call, var: str) -> str:
    """The lines of a field that has to be filled in. Raises `BadRequest`."""
    text = "" if call.form is None else "\n".join(call.form.fields.get(var, []))
    if not text.strip():
        raise bad("bad-payload", f"{var} is missing")
    return text


def most_of(call: Call) -> int:
    """How many addresses to list. Raises `BadRequest` for what is no number."""
    text = "none" if call.form is None else call.form.first("max_items", "none").strip() or "none"
    if text == "none":
        return MOST_LISTED
    return min(number_of(text, "max_items"), MOST_LISTED)


def number_of(text: str, var: str) -> int:
    """A whole number. Raises `BadRequest`."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise bad("bad-payload", f"{var} is not a number")
    return int(text)


def listed(var: str, label: str, addresses: Sequence[str], most: int) -> Done:
    """A list of addresses, with a word where it was cut."""
    form = result(forms.Field(var, addresses[:most], "jid-multi", label))
    return Done(f"There are more than {most}" if len(addresses) > most else "", form=form)


def counted(var: str, label: str, number: int) -> Done:
    """A number."""
    return found(forms.Field(var, (str(number),), "text-single", label))


def moment(seconds: float) -> str:
    """A time (XEP-0082), whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _account(call: Call, text: str) -> JID:
    try:
        jid = JID.parse(text)
    except InvalidJID as error:
        raise JidMalformed(f"{text[:100]} is not an address") from error
    if not jid.local or jid.domain != call.domain:
        raise NotFound(f"{text[:100]} is no account of {call.domain}")
    return jid
