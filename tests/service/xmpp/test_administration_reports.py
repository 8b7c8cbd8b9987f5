"""Commands for reports of abuse."""

from homeserver.domain.accounts import Role
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.services.reports import Complaint
from tests.kit.commands import OURS, run, said, step
from tests.kit.world import World


async def test_reports_are_listed_and_closed(server: World) -> None:
    operator = await server.session("op")
    await server.accounts.set_role("op@a.example", Role.OPERATOR)
    assert said(await step(server, operator, f"{OURS}reports")) == "There are no open reports"
    complaint = Complaint(JID.parse("eve@far.example"), ns.REPORT_SPAM, "Buy!\nNow!")
    number = await server.reports.report(await server.account("ann"), complaint)
    answer = await step(server, operator, f"{OURS}reports")
    [item] = answer.iter(f"{{{ns.DATA_FORM}}}item")
    values = {cell.get("var"): [value.text for value in cell] for cell in item}
    assert values["number"] == [str(number)]
    assert (values["reporter"], values["jid"]) == (["ann@a.example"], ["eve@far.example"])
    assert values["words"] == ["Buy!", "Now!"]
    assert said(await run(server, operator, f"{OURS}resolve-report", number=str(number), note="blocked")) == "Closed"
    assert said(await run(server, operator, f"{OURS}resolve-report", number=str(number))) == "item-not-found"
    assert said(await run(server, operator, f"{OURS}resolve-report", number="x")) == "bad-request"
    assert said(await step(server, operator, f"{OURS}reports")) == "There are no open reports"
