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

__all__ = ["BigInteger", "Index", "account", "credential", "log", "metadata"]
