"""SQL for what clients sent under which idempotency key."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from homeserver.storage.schema import client_message


@dataclass(frozen=True, slots=True)
class Known:
    """A message that was sent under a ``client_id``: digest of what was asked for, id in the log, its time."""

    digest: bytes
    message: int
    at: int


def find(connection: Connection, account: int, client_id: str, now: float) -> Known | None:
    """What the account sent under that id, if it is not too long ago."""
    row = connection.execute(
        select(client_message).where(
            client_message.c.account == account,
            client_message.c.client_id == client_id,
            client_message.c.expires > now,
        )
    ).one_or_none()
    return None if row is None else Known(bytes(row.digest), row.message, row.at)


def keep(connection: Connection, account: int, client_id: str, known: Known, expires: float) -> None:
    """Note what was sent under an id; what stood there had expired."""
    mine = (client_message.c.account == account) & (client_message.c.client_id == client_id)
    connection.execute(delete(client_message).where(mine))
    connection.execute(
        insert(client_message).values(
            account=account,
            client_id=client_id,
            digest=known.digest,
            message=known.message,
            at=known.at,
            expires=expires,
        )
    )


def drop_expired(connection: Connection, now: float) -> None:
    """Forget ids that are over."""
    connection.execute(delete(client_message).where(client_message.c.expires <= now))
