"""Every cell of RFC 6121 appendix A, written out once more in the words of the RFC."""

import pytest

from homeserver.domain.subscriptions import TYPES, State, inbound, outbound

NAMES = {
    "None": State.NONE,
    "None + Pending Out": State.NONE_OUT,
    "None + Pending In": State.NONE_IN,
    "None + Pending Out+In": State.NONE_OUT_IN,
    "To": State.TO,
    "To + Pending In": State.TO_IN,
    "From": State.FROM,
    "From + Pending Out": State.FROM_OUT,
    "Both": State.BOTH,
}

OUTBOUND = {
    "subscribe": """
        None                  | MUST | None + Pending Out
        None + Pending Out    | MUST | no state change
        None + Pending In     | MUST | None + Pending Out+In
        None + Pending Out+In | MUST | no state change
        To                    | MUST | no state change
        To + Pending In       | MUST | no state change
        From                  | MUST | From + Pending Out
        From + Pending Out    | MUST | no state change
        Both                  | MUST | no state change
    """,
    "unsubscribe": """
        None                  | MUST | no state change
        None + Pending Out    | MUST | None
        None + Pending In     | MUST | no state change
        None + Pending Out+In | MUST | None + Pending In
        To                    | MUST | None
        To + Pending In       | MUST | None + Pending In
        From                  | MUST | no state change
        From + Pending Out    | MUST | From
        Both                  | MUST | From
    """,
    "subscribed": """
        None                  | M.N. | pre-approval
        None + Pending Out    | M.N. | pre-approval
        None + Pending In     | MUST | From
        None + Pending Out+In | MUST | From + Pending Out
        To                    | M.N. | pre-approval
        To + Pending In       | MUST | Both
        From                  | M.N. | no state change
        From + Pending Out    | M.N. | no state change
        Both                  | M.N. | no state change
    """,
    "unsubscribed": """
        None                  | S.N. | no state change
        None + Pending Out    | S.N. | no state change
        None + Pending In     | MUST | None
        None + Pending Out+In | MUST | None + Pending Out
        To                    | S.N. | no state change
        To + Pending In       | MUST | To
        From                  | MUST | None
        From + Pending Out    | MUST | None + Pending Out
        Both                  | MUST | To
    """,
}

INBOUND = {
    "subscribe": """
        None                  | MUST | None + Pending In     |
        None + Pending Out    | MUST | None + Pending Out+In |
        None + Pending In     | S.N. | no state change       |
        None + Pending Out+In | S.N. | no state change       |
        To                    | MUST | To + Pending In       |
        To + Pending In       | S.N. | no state change       |
        From                  | S.N. | no state change       | subscribed
        From + Pending Out    | S.N. | no state change       | subscribed
        Both                  | S.N. | no state change       | subscribed
    """,
    "unsubscribe": """
        None                  | S.N. | no state change       |
        None + Pending Out    | S.N. | no state change       |
        None + Pending In     | MUST | None                  | unsubscribed
        None + Pending Out+In | MUST | None + Pending Out    | unsubscribed
        To                    | S.N. | no state change       |
        To + Pending In       | MUST | To                    | unsubscribed
        From                  | MUST | None                  | unsubscribed
        From + Pending Out    | MUST | None + Pending Out    | unsubscribed
        Both                  | MUST | To                    | unsubscribed
    """,
    "subscribed": """
        None                  | S.N. | no state change       |
        None + Pending Out    | MUST | To                    |
        None + Pending In     | S.N. | no state change       |
        None + Pending Out+In | MUST | To + Pending In       |
        To                    | S.N. | no state change       |
        To + Pending In       | S.N. | no state change       |
        From                  | S.N. | no state change       |
        From + Pending Out    | MUST | Both                  |
        Both                  | S.N. | no state change       |
    """,
    "unsubscribed": """
        None                  | S.N. | no state change       |
        None + Pending Out    | MUST | None                  |
        None + Pending In     | S.N. | no state change       |
        None + Pending Out+In | MUST | None + Pending In     |
        To                    | MUST | None                  |
        To + Pending In       | MUST | None + Pending In     |
        From                  | S.N. | no state change       |
        From + Pending Out    | MUST | From                  |
        Both                  | MUST | From                  |
    """,
}


def rows(tables: dict[str, str]) -> list[tuple[str, list[str]]]:
    return [
        (kind, [cell.strip() for cell in line.split("|")])
        for kind, table in tables.items()
        for line in table.strip().splitlines()
    ]


@pytest.mark.parametrize("kind, cells", rows(OUTBOUND))
def test_outbound_follows_tables_2_to_5(kind: str, cells: list[str]) -> None:
    existing, route, new = cells
    state = NAMES[existing]
    found = outbound(kind, state)
    assert found.route is (route == "MUST")
    assert found.approved is (new == "pre-approval")
    assert found.state is (state if new in ("no state change", "pre-approval") else NAMES[new])


@pytest.mark.parametrize("kind, cells", rows(INBOUND))
def test_inbound_follows_tables_6_to_9(kind: str, cells: list[str]) -> None:
    existing, deliver, new, reply = cells
    state = NAMES[existing]
    found = inbound(kind, state)
    assert found.deliver is (deliver == "MUST")
    assert found.state is (state if new == "no state change" else NAMES[new])
    assert found.reply == (reply or None)


def test_the_tables_are_complete() -> None:
    assert len(rows(OUTBOUND)) == len(rows(INBOUND)) == len(TYPES) * len(State) == 36
    assert set(NAMES.values()) == set(State)


@pytest.mark.parametrize("kind", sorted(TYPES))
@pytest.mark.parametrize("state", State)
def test_a_repeated_inbound_stanza_changes_nothing_more(kind: str, state: State) -> None:
    once = inbound(kind, state)
    again = inbound(kind, once.state)
    assert again.state is once.state
    assert not again.deliver


@pytest.mark.parametrize(
    "state, granted", [("None", "From"), ("None + Pending Out", "From + Pending Out"), ("To", "Both")]
)
def test_a_pre_approved_request_is_granted_without_asking(state: str, granted: str) -> None:
    found = inbound("subscribe", NAMES[state], approved=True)
    assert (found.state, found.deliver, found.reply) == (NAMES[granted], False, "subscribed")


@pytest.mark.parametrize("state", State)
def test_only_unsubscribed_cancels_a_pre_approval(state: State) -> None:
    assert outbound("unsubscribed", state, approved=True).approved is False
    for kind in ("subscribe", "unsubscribe", "subscribed"):
        assert outbound(kind, state, approved=True).approved is True


@pytest.mark.parametrize(
    "state, subscription, asking, asked",
    [
        ("None", "none", False, False),
        ("None + Pending Out", "none", True, False),
        ("None + Pending In", "none", False, True),
        ("None + Pending Out+In", "none", True, True),
        ("To", "to", False, False),
        ("To + Pending In", "to", False, True),
        ("From", "from", False, False),
        ("From + Pending Out", "from", True, False),
        ("Both", "both", False, False),
    ],
)
def test_how_a_state_shows_in_the_roster(state: str, subscription: str, asking: bool, asked: bool) -> None:
    found = NAMES[state]
    assert (found.subscription, found.is_asking, found.is_asked) == (subscription, asking, asked)
    assert found.receives is (subscription in ("to", "both"))
    assert found.shares is (subscription in ("from", "both"))
