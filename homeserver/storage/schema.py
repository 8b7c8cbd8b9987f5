"""Every table, on one page. ``info["owner"]`` names the one module whose SQL touches the table.

Times are floats, seconds since the epoch, unless the column says microseconds. Ids of the log are described in
``homeserver/domain/ids.py``.
"""

from sqlalchemy import (
    BigInteger,
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

# --- messages -------------------------------------------------------------------------------------------------------

log = Table(
    "log",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, comment="microseconds since the epoch"),
    Column("sender", Integer, comment="local account, or null"),
    Column("recipient", Integer, comment="local account, or null"),
    Column("remote", Text, comment="bare JID of the side that is not local, or null"),
    Column("kind", SmallInteger, nullable=False),
    Column("treatment", SmallInteger, nullable=False),
    Column("stanza_id", Text),
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
