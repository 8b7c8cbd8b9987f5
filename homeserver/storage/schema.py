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

__all__ = [
    "BigInteger",
    "Index",
    "account",
    "contact",
    "credential",
    "last_activity",
    "log",
    "metadata",
    "roster_version",
]
