"""Any text is an address or refused; a prepared address is its own prepared form."""

from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.xml import escape_attribute

TEXT = st.one_of(
    st.text(max_size=30),
    st.builds("{}@{}/{}".format, st.text(max_size=8), st.sampled_from(["a.example", "[::1]", "b\u00fc.example"]), st.text(max_size=8)),
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(TEXT)
def test_prepared_once_is_prepared_for_ever(text: str) -> None:
    try:
        jid = JID.parse(text)
    except InvalidJID:
        return
    assert JID.parse(str(jid)) == jid
    assert str(JID.parse(str(jid))) == str(jid)
    assert len(str(jid).encode()) <= 3071
    assert "\0" not in escape_attribute(str(jid))
    if jid.local:
        assert not set(jid.local) & set("\"&'/:<>@ ")
