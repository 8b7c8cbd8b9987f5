"""Commands for reports of spam and abuse (XEP-0377)."""

from typing import Any, Final

from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import element
from homeserver.services.reports import ReportVerbs
from homeserver.xmpp.administration_forms import ask, moment, number_of
from homeserver.xmpp.commands import OPERATORS, Ask, Call, Done, command
from homeserver.xmpp.feature import feature

MOST_SHOWN: Final = 50
_COLUMNS: Final = (
    forms.Field("number", type="text-single", label="Number"),
    forms.Field("at", type="text-single", label="Time"),
    forms.Field("reporter", type="jid-single", label="Reported by"),
    forms.Field("jid", type="jid-single", label="About"),
    forms.Field("reason", type="text-single", label="Reason"),
    forms.Field("words", type="text-multi", label="Words"),
)


@feature(xep=377, version="0.4.1")
class ReportCommands:
    """Shows open reports and closes them; the messages they are about are for the command line."""

    verbs: ReportVerbs

    @command(f"{ns.PARLEY_COMMANDS}#reports", "List open reports", roles=OPERATORS)
    async def reports(self, _call: Call) -> Done:
        """The newest open ones."""
        found = await self.verbs.list({"all": False})
        if not found:
            return Done("There are no open reports")
        form = forms.build("result", ns.ADMIN)
        form.append(element(ns.DATA_FORM, "reported", None, *(column.to_element() for column in _COLUMNS)))
        for one in found[:MOST_SHOWN]:
            form.append(element(ns.DATA_FORM, "item", None, *(cell.to_element() for cell in _cells(one))))
        return Done(f"The newest {MOST_SHOWN} of {len(found)}" if len(found) > MOST_SHOWN else "", form=form)

    @command(f"{ns.PARLEY_COMMANDS}#resolve-report", "Close report", roles=OPERATORS)
    async def resolve(self, call: Call) -> Ask | Done:
        """Closes one, with a note for later readers."""
        if call.form is None:
            number = forms.Field("number", type="text-single", label="Number", is_required=True)
            return ask("Close a report", number, forms.Field("note", type="text-single", label="Note"))
        number_text = call.value("number").strip()
        note = f"{call.account.jid.bare}: {call.form.first('note').strip()}"
        await self.verbs.resolve({"number": number_of(number_text, "number"), "note": note})
        return Done("Closed")


def _cells(report: dict[str, Any]) -> list[forms.Field]:
    shown = {**report, "number": str(report["id"]), "at": moment(report["at"])}
    return [forms.Field(column.var, str(shown[column.var]).split("\n")) for column in _COLUMNS]
