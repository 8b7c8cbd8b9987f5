"""The page about administration has every command."""

from homeserver.xmpp.command_page import PAGE, declared, page


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m homeserver.xmpp.command_page"


def test_commands_have_nodes_and_names_of_their_own() -> None:
    found = declared()
    assert len({one.node for one in found}) == len({one.name for one in found}) == len(found)
    assert len(found) > 30
