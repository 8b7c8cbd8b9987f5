"""Every table, on one page. ``info["owner"]`` names the one module whose SQL touches the table.

Times are floats, seconds since the epoch, unless the column says microseconds. Ids of the log are described in
``homeserver/domain/ids.py``.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite keys a table by row number only for a column of type INTEGER."""

# --- accounts -------------------------------------------------------------------------------------------------------

account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("jid", Text, nullable=False, unique=True),
    Column("domain", Text, nullable=False),
    Column("state", SmallInteger, nullable=False, default=0),
    Column("role", Text, nullable=False, default="member"),
    Column("created", Float, nullable=False),
    Column("ends", Float, index=True, comment="when it is deleted, or what it left is; null: never, or all is gone"),
    info={"owner": "homeserver.storage.accounts"},
)

credential = Table(
    "credential",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("mechanism", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("server_key", LargeBinary, nullable=False),
    info={"owner": "homeserver.storage.accounts"},
)

secret = Table(
    "secret",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
    info={"owner": "homeserver.storage.accounts"},
)

invite = Table(
    "invite",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("hash", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the token"),
    Column("kind", Text, nullable=False, comment="domain/invites.py"),
    Column("account", Integer, ForeignKey("account.id"), index=True, comment="who invites; null is the operator"),
    Column("subject", Integer, ForeignKey("account.id"), index=True, comment="whose password it sets, or null"),
    Column("domain", Text, nullable=False),
    Column("username", Text, nullable=False, default="", comment="localpart that is kept for the holder, or empty"),
    Column("role", Text, nullable=False, default="member", comment="of the new account"),
    Column("uses", Integer, nullable=False, comment="how often it may still be used"),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Index("invite_username", "username", "domain"),
    info={"owner": "homeserver.storage.invites"},
)

device = Table(
    "device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Integer, ForeignKey("account.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("software", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("position", BigInteger, comment="id of the last message its client has processed, or null"),
    Column("client", Text, comment="XMPP: id of the user agent (XEP-0388 s2.3); null: a device of the JSON API"),
    UniqueConstraint("account", "client"),
    info={"owner": "homeserver.storage.devices"},
)

refresh_token = Table(
    "refresh_token",
    metadata,
    Column("hash", LargeBinary, primary_key=True, comment="SHA-256 of the token"),
    Column("device", Text, ForeignKey("device.id"), nullable=False, index=True),
    Column("expires", Float, nullable=False, index=True),
    Column("used", Float, comment="when it was exchanged for its successor, or null"),
    info={"owner": "homeserver.storage.devices"},
)

# --- the JSON API ---------------------------------------------------------------------------------------------------

client_message = Table(
    "client_message",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("client_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of what was sent under that id"),
    Column("message", BigInteger, nullable=False, comment="id in the log"),
    Column("at", BigInteger, nullable=False, comment="microseconds since the epoch"),
    Column("expires", Float, nullable=False, index=True),
    info={"owner": "homeserver.storage.client_messages"},
)

# --- messages -------------------------------------------------------------------------------------------------------

log = Table(
    "log",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, comment="microseconds since the epoch"),
    Column("sender", Integer, comment="local account, or null"),
    Column("recipient", Integer, comment="local account, or null"),
    Column("remote", Text, comment="bare JID of the side that is not a local account, or null"),
    Column("kind", SmallInteger, nullable=False),
    Column("treatment", SmallInteger, nullable=False),
    Column("stanza_id", Text),
    Column("origin_id", Text, comment="XEP-0359, as the sender gave it; tells a resend"),
    Column("payload", LargeBinary, nullable=False),
    info={"owner": "homeserver.storage.mailboxes"},
)

# --- federation -----------------------------------------------------------------------------------------------------

destination = Table(
    "destination",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False, comment="domain hosted here"),
    Column("domain", Text, nullable=False, comment="domain of the peer"),
    Column("epoch", Text, nullable=False),
    Column("previous_epoch", Text),
    Column("named_until", BigInteger, nullable=False, default=0),
    Column("settled", BigInteger, nullable=False, default=0),
    Column("assigned", BigInteger, nullable=False, default=0),
    Column("assigned_id", BigInteger, nullable=False, default=0, comment="last outbox id that has a number"),
    Column("sent_id", BigInteger, nullable=False, default=0, comment="last outbox id that was ever in a signed batch"),
    Column("failures", Integer, nullable=False, default=0),
    Column("retry_at", Float, nullable=False, default=0.0),
    Column("waiting_since", Float),
    Column("last_error", Text),
    Column("heard_at", Float, nullable=False, default=0.0),
    UniqueConstraint("origin", "domain"),
    info={"owner": "homeserver.storage.outbox"},
)

outbox = Table(
    "outbox",
    metadata,
    Column("destination", Integer, primary_key=True, autoincrement=False),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("created", Float, nullable=False),
    Column("sender", Text, nullable=False, comment="address that is told when it expires"),
    Column("stanza_id", Text),
    Column("log_id", BigInteger, info={"log_id": True}, comment="the stanza is in the log under this id, or null"),
    Column("payload", LargeBinary, comment="the stanza where it is not in the log"),
    Column("void", Text, comment="why a numbered row will not be sent, or null"),
    sqlite_with_rowid=False,
    info={"owner": "homeserver.storage.outbox"},
)

peer_state = Table(
    "peer_state",
    metadata,
    Column("origin", Text, primary_key=True, comment="domain of the peer"),
    Column("destination", Text, primary_key=True, comment="domain hosted here"),
    Column("epoch", Text, nullable=False),
    Column("highest", BigInteger, nullable=False),
    Column("rejected", Text, nullable=False, comment="JSON object: number to reason"),
    info={"owner": "homeserver.storage.peers"},
)

peer_batch = Table(
    "peer_batch",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("last", BigInteger, primary_key=True, comment="highest number of the batch"),
    Column("at", Float, nullable=False),
    Column("ids", Text, nullable=False, comment="JSON array of the ids of its numbers, in order; empty for a void"),
    info={"owner": "homeserver.storage.peers"},
)

peer_key = Table(
    "peer_key",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("public", LargeBinary, nullable=False, comment="32 bytes, Ed25519"),
    Column("not_before", Float, nullable=False),
    Column("not_after", Float, comment="end of its use, or null"),
    Column("first_seen", Float, nullable=False),
    info={"owner": "homeserver.storage.peers"},
)

peer_document = Table(
    "peer_document",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("subdomains", Text, nullable=False, comment="JSON array"),
    Column("base", Text, comment="URL of its signed API; a domain that had one never falls back"),
    info={"owner": "homeserver.storage.peers"},
)

__all__ = ["BigInteger", "Index", "account", "credential", "destination", "log", "metadata", "outbox", "peer_batch"]
__all__ += ["peer_document", "peer_key", "peer_state"]
address = Table(
    "address",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("jid", Text, nullable=False, unique=True, comment="bare JID of a peer that is no local account"),
    info={"owner": "homeserver.storage.mailboxes"},
)

entry = Table(
    "entry",
    metadata,
    Column("owner", Integer, primary_key=True, autoincrement=False, comment="local account"),
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="of the log"),
    Column("peer", Integer, nullable=False, comment="local account, or minus the id of an address"),
    Index("entry_peer", "owner", "peer", "id"),
    sqlite_with_rowid=False,
    info={"owner": "homeserver.storage.mailboxes"},
)

# No foreign key: a position that arrives after its account is gone must not fail the commit of everybody else.
mailbox = Table(
    "mailbox",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False, comment="highest id handed out; kept where several nodes write"),
    Column("settled", BigInteger, nullable=False, comment="everything up to this id needs no delivery"),
    info={"owner": "homeserver.storage.mailboxes"},
)

log_state = Table(
    "log_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("indexed_through", BigInteger, nullable=False, comment="entries exist for the log up to this id"),
    Column("lead", BigInteger, nullable=False, comment="largest id - at ever, microseconds"),
    info={"owner": "homeserver.storage.mailboxes"},
)

# --- resumption -----------------------------------------------------------------------------------------------------

stream = Table(
    "stream",
    metadata,
    Column("id", Text, primary_key=True, comment="resumption id (XEP-0198 s5)"),
    Column("account", Integer, nullable=False),
    Column("resource", Text, nullable=False),
    Column("received", BigInteger, nullable=False, comment="stanzas handled from the client"),
    Column("sent", BigInteger, nullable=False, comment="stanzas the client acknowledged"),
    Column("position", BigInteger, nullable=False, comment="log id of the last message it acknowledged"),
    Column("state", LargeBinary, nullable=False, comment="JSON of the face that owns the stream"),
    Column("updated", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("marked_sent", BigInteger, nullable=False, default=0, comment="stanzas sent at some moment"),
    Column("marked_position", BigInteger, nullable=False, default=0, comment="log id of the last message among them"),
    Column("client", Text, comment="id of the user agent, or null"),
    Index("stream_account", "account"),
    Index("stream_expires", "expires"),
    info={"owner": "homeserver.storage.resumption"},
)

# --- commits --------------------------------------------------------------------------------------------------------

commit_mark = Table(
    "commit_mark",
    metadata,
    Column("writer", Text, primary_key=True, comment="one running server"),
    Column("batch", BigInteger, nullable=False, comment="its last commit without messages"),
    info={"owner": "homeserver.storage.group_commit"},
)
# --- entity capabilities --------------------------------------------------------------------------------------------

entity_caps = Table(
    "entity_caps",
    metadata,
    Column("algorithm", Text, primary_key=True),
    Column("ver", Text, primary_key=True, comment="the hash, which proves the rest"),
    Column("nodes", Text, nullable=False, comment="JSON array: wanted notifications"),
    Column("learnt", Float, nullable=False, index=True),
    info={"owner": "homeserver.storage.entity_caps"},
)

# --- contacts -------------------------------------------------------------------------------------------------------

contact = Table(
    "contact",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("jid", Text, primary_key=True, comment="bare"),
    Column("name", Text, nullable=False, default=""),
    Column("groups", Text, nullable=False, default="[]", comment="JSON array of names"),
    Column("state", SmallInteger, nullable=False, default=0, comment="domain/subscriptions.py"),
    Column("approved", Boolean, nullable=False, default=False),
    Column("listed", Boolean, nullable=False, default=False, comment="false: only asked, or was removed"),
    Column("version", BigInteger, nullable=False, default=0, comment="of the roster when the contact last changed"),
    Column("request", LargeBinary, comment="the subscription request that waits for an answer"),
    info={"owner": "homeserver.storage.contacts"},
)

roster_version = Table(
    "roster_version",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False, comment="changes after this version can still be told"),
    info={"owner": "homeserver.storage.contacts"},
)

last_activity = Table(
    "last_activity",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False, comment="when its last session became unavailable"),
    Column("status", Text, nullable=False, default=""),
    info={"owner": "homeserver.storage.activity"},
)
# --- files ----------------------------------------------------------------------------------------------------------

file = Table(
    "file",
    metadata,
    Column("id", Text, primary_key=True, comment="random; part of the address"),
    Column("account", Integer, ForeignKey("account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False, comment="content type without parameters"),
    Column("size", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the content"),
    Column("created", Float, nullable=False),
    Column("expires", Float, comment="null: kept"),
    Index("file_account", "account", "created"),
    Index("file_expires", "expires"),
    info={"owner": "homeserver.storage.files"},
)

# --- tokens of XMPP clients -----------------------------------------------------------------------------------------

login_token = Table(
    "login_token",
    metadata,
    Column("device", Text, ForeignKey("device.id"), primary_key=True),
    Column("is_new", Boolean, primary_key=True, comment="given out and not used yet (XEP-0484 s5.1)"),
    Column("mechanism", Text, nullable=False),
    Column("token", LargeBinary, nullable=False, comment="in the clear: it is the key of the client's proof"),
    Column("expires", Float, nullable=False, index=True),
    Column("counter", BigInteger, comment="the client's counter at the last login, or null"),
    info={"owner": "homeserver.storage.devices"},
)

# --- publish-subscribe ----------------------------------------------------------------------------------------------

pubsub_node = Table(
    "pubsub_node",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("host", Text, nullable=False, comment="bare JID of an account, or domain of the service"),
    Column("name", Text, nullable=False),
    Column("creator", Text, nullable=False, comment="bare JID"),
    Column("created", Float, nullable=False),
    Column("config", Text, nullable=False, comment="JSON of domain/pubsub.py: NodeConfig"),
    Column("expire", BigInteger, comment="seconds that items live, or null"),
    Column("held", Integer, nullable=False, default=0, comment="number of items"),
    Column("bytes", BigInteger, nullable=False, default=0, comment="of their payloads"),
    UniqueConstraint("host", "name", name="pubsub_node_name"),
    info={"owner": "homeserver.storage.pubsub"},
)

pubsub_item = Table(
    "pubsub_item",
    metadata,
    Column("node", BigInteger, ForeignKey("pubsub_node.id"), primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False, comment="microseconds, growing within the node"),
    Column("publisher", Text, nullable=False, comment="bare JID"),
    Column("payload", LargeBinary, nullable=False),
    Index("pubsub_item_at", "node", "at"),
    info={"owner": "homeserver.storage.pubsub"},
)

pubsub_affiliation = Table(
    "pubsub_affiliation",
    metadata,
    Column("node", BigInteger, ForeignKey("pubsub_node.id"), primary_key=True, autoincrement=False),
    Column("jid", Text, primary_key=True, comment="bare"),
    Column("affiliation", Text, nullable=False),
    info={"owner": "homeserver.storage.pubsub"},
)

pubsub_subscription = Table(
    "pubsub_subscription",
    metadata,
    Column("node", BigInteger, ForeignKey("pubsub_node.id"), primary_key=True, autoincrement=False),
    Column("jid", Text, primary_key=True, comment="bare or full"),
    Column("state", Text, nullable=False),
    info={"owner": "homeserver.storage.pubsub"},
)

# --- history --------------------------------------------------------------------------------------------------------

read_position = Table(
    "read_position",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("peer", Text, primary_key=True, comment="bare JID"),
    Column("id", BigInteger, nullable=False, comment="of the log: everything of the conversation up to it is read"),
    info={"owner": "homeserver.storage.inbox"},
)

search_state = Table(
    "search_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("through", BigInteger, nullable=False, comment="messages up to this id can be found by their words"),
    info={"owner": "homeserver.storage.search"},
)

# --- privacy --------------------------------------------------------------------------------------------------------

blocked = Table(
    "blocked",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("jid", Text, primary_key=True, comment="full, bare, or a domain"),
    info={"owner": "homeserver.storage.privacy"},
)

privacy = Table(
    "privacy",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("archive", Text, comment="always, never or roster; null: always"),
    Column("strangers", Text, comment="off, mark or refuse; null: as the server is set"),
    info={"owner": "homeserver.storage.privacy"},
)

archive_exception = Table(
    "archive_exception",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("jid", Text, primary_key=True, comment="full or bare"),
    Column("keep", Boolean, nullable=False, comment="true: always archived, false: never"),
    info={"owner": "homeserver.storage.privacy"},
)

report = Table(
    "report",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    Column("reporter", Text, nullable=False, comment="bare JID of the account that reports"),
    Column("jid", Text, nullable=False, comment="who is reported"),
    Column("reason", Text, nullable=False),
    Column("words", Text, nullable=False, default="", comment="what the reporter wrote"),
    Column("origin", Boolean, nullable=False, default=False, comment="may be passed on to the server it came from"),
    Column("third_party", Boolean, nullable=False, default=False, comment="may be passed on to others"),
    Column("resolved", Float, comment="when the operator was done with it, or null"),
    Column("note", Text, nullable=False, default="", comment="what the operator wrote"),
    info={"owner": "homeserver.storage.reports"},
)

report_message = Table(
    "report_message",
    metadata,
    Column("report", Integer, ForeignKey("report.id"), primary_key=True, autoincrement=False),
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="of the log, when it was reported"),
    Column("at", BigInteger, nullable=False, comment="microseconds since the epoch"),
    Column("payload", LargeBinary, nullable=False),
    info={"owner": "homeserver.storage.reports"},
)

# --- push -----------------------------------------------------------------------------------------------------------

push = Table(
    "push",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("service", Text, primary_key=True, comment="JID of the app server"),
    Column("node", Text, primary_key=True),
    Column("options", Text, nullable=False, comment="JSON: fields of the publish options"),
    Column("device", Text, comment="of the JSON API; the registration ends with it"),
    Column("client", Text, comment="id of the user agent of an XMPP client; the same"),
    Column("enabled", Float, nullable=False),
    Column("failures", Integer, nullable=False, default=0, comment="notifications in a row that were not taken"),
    Index("push_device", "device"),
    info={"owner": "homeserver.storage.push"},
)

# --- what the operator says to everybody ----------------------------------------------------------------------------

announcement = Table(
    "announcement",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("author", Integer, ForeignKey("account.id"), nullable=False),
    Column("domain", Text, nullable=False, comment="whose accounts are told; empty for every domain"),
    Column("role", Text, nullable=False, comment="which of them; empty for all"),
    Column("text", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("last", Integer, nullable=False, comment="highest number of an account when it was made"),
    Column("reached", Integer, nullable=False, default=0, comment="accounts up to this number are done with"),
    Column("told", Integer, nullable=False, default=0, comment="how many accounts were sent it"),
    Column("finished", Float, index=True, comment="null while there is something left to do"),
    info={"owner": "homeserver.storage.announcements"},
)

notice = Table(
    "notice",
    metadata,
    Column("kind", Text, primary_key=True, comment="domain/notices.py"),
    Column("domain", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("version", BigInteger, nullable=False, comment="grows when it is to be shown again to everybody"),
    Column("since", Float, nullable=False, comment="when it was first set"),
    info={"owner": "homeserver.storage.notices"},
)

notice_seen = Table(
    "notice_seen",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="the last one that the account was sent"),
    info={"owner": "homeserver.storage.notices"},
)

last_login = Table(
    "last_login",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False, comment="when its last session began"),
    info={"owner": "homeserver.storage.activity"},
)

# --- profiles and private data ----------------------------------------------------------------------------------------

vcard = Table(
    "vcard",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False, comment="vcard-temp without a picture"),
    info={"owner": "homeserver.storage.vcards"},
)

private_data = Table(
    "private_data",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True, comment="tag of the elements, or the name of a document"),
    Column("payload", LargeBinary, nullable=False),
    info={"owner": "homeserver.storage.private_data"},
)
