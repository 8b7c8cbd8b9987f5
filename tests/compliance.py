"""Which compliance suites the server meets (XEP-0479), and what proves it: ``python -m tests.compliance``.

The state of a line is read from the declarations (`homeserver.xmpp.protocols`): it is green when all its documents are
complete. What proves it are tests, by file below ``tests/`` and name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeserver.xmpp import protocols
from homeserver.xmpp.documents import TITLES

PAGE: Final = protocols.ROOT / "docs" / "compliance.md"
BOTH: Final = "Server, Advanced Server"
ADVANCED: Final = "Advanced Server"
GREEN: Final = "green"
OPEN: Final = "open"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a suite, where it asks something of servers.

    ``level`` says which levels demand it; ``documents`` are its providers, keys of `TITLES`; ``note`` says what is
    missing where it is open.
    """

    suite: str
    feature: str
    level: str
    documents: tuple[str, ...]
    proofs: tuple[str, ...]
    note: str = ""

    @property
    def state(self) -> str:
        """Green if every document is complete."""
        return GREEN if not self.note and not self.lacking else OPEN

    @property
    def lacking(self) -> list[str]:
        """Its documents that are not complete."""
        return [one for one in self.documents if status_of(one) != "complete"]


@dataclass(frozen=True, slots=True)
class Named:
    """A document that the suites name without demanding it; ``note`` says more than its status."""

    document: str
    note: str = ""


def status_of(document: str) -> str:
    """``complete``, ``partial``, ``relayed``, or "" for what is not declared; the least of several declarations."""
    found = {one.status for one in protocols.supports() if one.document == document}
    return next((status for status in ("partial", "relayed", "complete") if status in found), "")


_ROOMS: Final = "group chats are not there yet"
LINES: Final = (
    Line(
        "Core", "Core features", BOTH, ("RFC 6120",),
        ("unit/protocol/test_c2s.py::test_scram_login", "unit/streams/test_transcripts.py::test_transcript",
         "e2e/interop/test_slixmpp.py::test_login", "e2e/test_storm_single.py::test_three_kills"),
        "all of it for clients; other servers are reached by signed HTTP, not by XMPP streams",
    ),
    Line(
        "Core", "TLS", BOTH, ("RFC 7590",),
        ("e2e/test_threats_tls.py::test_s33_old_tls_is_refused",
         "e2e/test_threats_tls.py::test_s31_nothing_but_starttls_before_tls",
         "unit/test_listeners.py::test_old_tls_is_refused_and_so_is_renegotiation"),
    ),
    Line(
        "Core", "Direct TLS", ADVANCED, ("XEP-0368",),
        ("e2e/interop/test_slixmpp.py::test_login",
         "unit/test_listeners.py::test_protocols_that_do_not_overlap_are_not_agreed_on"),
    ),
    Line(
        "Core", "Feature discovery", BOTH, ("XEP-0030",),
        ("e2e/test_discovery_truth.py::test_a_domain", "e2e/test_discovery_truth.py::test_the_own_account",
         "service/xmpp/test_disco.py::test_an_account_answers_itself_and_its_subscribers"),
    ),
    Line(
        "Core", "Feature broadcasts", ADVANCED, ("XEP-0115",),
        ("e2e/interop/test_disco.py::test_the_hash_of_the_stream_features_is_that_of_the_answer",
         "unit/protocol/test_caps.py::test_the_examples_of_the_specification",
         "service/services/test_entity_caps.py::test_a_lie_is_for_the_liar_only"),
    ),
    Line(
        "Core", "Server Extensibility", BOTH, ("XEP-0114",),
        ("e2e/interop/test_components.py::test_an_echo_bot_of_slixmpp",
         "unit/protocol/test_component_stream.py::test_handshake_of_the_specification"),
    ),
    Line(
        "Core", "Event publishing", ADVANCED, ("XEP-0163",),
        ("e2e/interop/test_notifications.py::test_own_devices_and_contacts_are_told_if_they_want",
         "e2e/interop/test_pubsub.py::test_the_second_device_finds_and_keeps_the_configuration",
         "service/xmpp/test_pubsub.py::test_options_are_the_configuration_of_a_new_node"),
    ),
    Line(
        "Web", "Web Connection Mechanisms", BOTH, ("RFC 7395", "XEP-0206", "XEP-0124"),
        ("e2e/interop/test_websocket.py::test_messages_over_two_domains",
         "e2e/interop/test_bosh.py::test_messages_over_two_domains",
         "e2e/interop/test_xmppjs.py::test_login_messages_and_resumption"),
    ),
    Line(
        "IM", "Core features", BOTH, ("RFC 6121",),
        ("e2e/interop/test_slixmpp.py::test_both_ways_over_two_domains",
         "e2e/interop/test_slixmpp.py::test_roster_and_presence_over_two_domains",
         "e2e/interop/test_rules.py::test_what_waits_and_what_does_not",
         "unit/domain/test_subscriptions.py::test_inbound_follows_tables_6_to_9"),
    ),
    Line(
        "IM", "User Avatar Compatibility", ADVANCED, ("XEP-0398", "XEP-0153"),
        ("service/xmpp/test_vcards.py::test_a_published_avatar_is_in_the_vcard",
         "service/xmpp/test_vcards.py::test_the_picture_of_a_vcard_is_published",
         "service/xmpp/test_vcards.py::test_presence_names_the_avatar"),
    ),
    Line(
        "IM", "vcard-temp", BOTH, ("XEP-0054",),
        ("service/xmpp/test_vcards.py::test_an_account_keeps_a_vcard_that_others_see",
         "service/xmpp/test_vcards.py::test_a_contact_elsewhere_sees_it"),
    ),
    Line(
        "IM", "Outbound Message Synchronization", BOTH, ("XEP-0280",),
        ("e2e/interop/test_slixmpp.py::test_the_second_and_third_device_see_everything",
         "service/xmpp/test_core_message.py::test_the_treatment_follows_type_and_content"),
    ),
    Line(
        "IM", "User Blocking", ADVANCED, ("XEP-0191",),
        ("e2e/interop/test_privacy.py::test_a_contact_on_another_server_is_blocked_and_unblocked",
         "e2e/test_threats_privacy.py::test_s79_nothing_of_a_blocked_contact_arrives",
         "service/xmpp/test_blocking.py::test_the_list_and_its_pushes"),
    ),
    Line("IM", "Group Chat", BOTH, ("XEP-0045", "XEP-0249"), (), _ROOMS),
    Line(
        "IM", "Advanced Group Chat", ADVANCED, ("XEP-0048", "XEP-0313", "XEP-0402", "XEP-0410"),
        (), "archives of rooms and self-ping come with group chats; bookmarks do not need them",
    ),
    Line(
        "IM", "Persistent Storage of Private Data via PubSub", ADVANCED, ("XEP-0223",),
        ("e2e/interop/test_notifications.py::test_nobody_else_is_told_of_what_is_private",
         "service/xmpp/test_bookmarks.py::test_the_nodes_are_private"),
    ),
    Line(
        "IM", "Private XML Storage", ADVANCED, ("XEP-0049",),
        ("service/xmpp/test_private_data.py::test_what_was_stored_is_read",
         "service/xmpp/test_private_data.py::test_s69_it_is_nobody_elses"),
    ),
    Line(
        "IM", "Stream Management", ADVANCED, ("XEP-0198",),
        ("e2e/interop/test_slixmpp.py::test_resumption_after_the_connection_was_lost",
         "e2e/interop/test_slixmpp.py::test_what_was_sent_into_a_dead_connection_arrives_after_resumption",
         "unit/protocol/test_sm.py::test_nothing_is_lost_or_invented"),
    ),
    Line(
        "IM", "History Storage / Retrieval", ADVANCED, ("XEP-0313",),
        ("e2e/interop/test_disco.py::test_pages_and_filters_of_the_archive",
         "e2e/interop/test_slixmpp.py::test_what_was_read_from_the_archive_is_not_delivered_again",
         "service/xmpp/test_archive_preferences.py::test_get_and_set"),
    ),
    Line(
        "IM", "File Upload", BOTH, ("XEP-0363",),
        ("e2e/interop/test_upload.py::test_slixmpp_finds_the_service_and_uploads",
         "e2e/interop/test_upload.py::test_what_a_browser_asks_before_it_uploads",
         "service/xmpp/test_upload.py::test_a_slot"),
    ),
    Line(
        "Mobile", "Stream Management", BOTH, ("XEP-0198",),
        ("e2e/interop/test_slixmpp.py::test_resumption_after_the_connection_was_lost",
         "e2e/interop/test_restart.py::test_a_session_resumed_after_kill_9_shows_what_it_showed"),
    ),
    Line(
        "Mobile", "Client State Indication", BOTH, ("XEP-0352",),
        ("e2e/interop/test_csi.py::test_what_may_wait_waits_and_a_message_takes_it_along",
         "unit/protocol/test_csi.py::test_classify"),
    ),
    Line(
        "Mobile", "Third Party Push Notifications", ADVANCED, ("XEP-0357",),
        ("e2e/interop/test_push.py::test_one_for_what_waits_none_for_a_chat_state_none_with_a_device_there",
         "e2e/interop/test_push.py::test_an_app_server_of_another_domain_over_a_restart"),
    ),
    Line(
        "A/V", "STUN/TURN server discovery", BOTH, ("XEP-0215",),
        ("e2e/interop/test_calls.py::test_external_services_are_told_to_accounts_of_this_server_only",
         "e2e/interop/test_calls.py::test_coturn_believes_the_credentials"),
    ),
)  # fmt: skip
"""The lines of XEP-0479 s2 that ask something of servers, in its order."""

_CLIENTS: Final = "a matter between clients; it passes"
NOT_REQUIRED: Final = (
    Named("XEP-0077"),
    Named("XEP-0157"),
    Named("XEP-0066"),
    Named("XEP-0385", _CLIENTS),
    Named("XEP-0392", "a matter of clients"),
    Named("XEP-0393", _CLIENTS),
    Named("XEP-0433", _ROOMS),
    Named("XEP-0424", "of one-to-one messages"),
    Named("XEP-0425", _ROOMS),
    Named("XEP-0286", "what it advises servers is XEP-0198 and XEP-0352"),
)
"""Of note, and not required (XEP-0479 s2.3, s2.4)."""
FUTURE: Final = (
    Named("XEP-0386"),
    Named("XEP-0409", "not there"),
    Named("XEP-0397", "not there; XEP-0386 resumes within the login"),
    Named("XEP-0401"),
    Named("XEP-0379"),
    Named("XEP-0445"),
    Named("XEP-0333"),
    Named("XEP-0369", "not there"),
    Named("XEP-0380"),
    Named("XEP-0420"),
    Named("XEP-0384"),
    Named("XEP-0396", _CLIENTS),
    Named("XEP-0374", _CLIENTS),
    Named("XEP-0402"),
    Named("XEP-0225", "not there"),
    Named("XEP-0390", "not there"),
    Named("XEP-0455", "not there"),
)
"""For the future (XEP-0479 s3)."""

_HEAD: Final = """# Compliance

Written by `python -m tests.compliance` from the declarations in the code and the table of tests in `tests/compliance.py`. The
lines are those of [XEP-0479](https://xmpp.org/extensions/xep-0479.html) that ask something of servers. A line is green if every
document in it is complete in [protocols.md](protocols.md), and a test demands that the tests that prove it exist. Paths are
below `tests/`.

"""


def page() -> str:
    """The text of ``docs/compliance.md``."""
    rows = ["## Lines", "", "| suite | line | level | documents | state | proven by |", "|---|---|---|---|---|---|"]
    for line in LINES:
        documents = ", ".join(line.documents)
        state = f"**{line.state}**: {line.note or 'not there: ' + ', '.join(line.lacking)}"
        if line.state == GREEN:
            state = GREEN
        proofs = "<br>".join(f"`{proof}`" for proof in line.proofs) if line.state == GREEN or line.note else ""
        rows.append(f"| {line.suite} | {line.feature} | {line.level} | {documents} | {state} | {proofs} |")
    for title, every in (("Named, not required", NOT_REQUIRED), ("Named for the future", FUTURE)):
        rows += ["", f"## {title}", "", "| document | title | state |", "|---|---|---|"]
        for named in every:
            state = ", ".join(part for part in (status_of(named.document), named.note) if part) or "not there"
            rows.append(f"| {named.document} | {TITLES[named.document]} | {state} |")
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
