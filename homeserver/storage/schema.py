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
    Column("hash", LargeBinary, primary_key=True, comment="SHA-256 of the token"),
    Column("account", Integer, ForeignKey("account.id"), nullable=False, comment="who invites"),
    Column("domain", Text, nullable=False),
    Column("uses", Integer, nullable=False, comment="how often it may still be used"),
    Column("expires", Float, nullable=False, index=True),
    info={"owner": "homeserver.storage.accounts"},
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

__all__ = [
    "BigInteger",
    "Index",
    "account",
    "client_message",
    "credential",
    "device",
    "invite",
    "log",
    "metadata",
    "refresh_token",
    "secret",
]
