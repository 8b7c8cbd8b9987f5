"""SQL for publish-subscribe: nodes, items, affiliations, subscriptions."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from homeserver.domain.pubsub import Affiliation, Item, Node, NodeConfig, Subscription, SubscriptionState
from homeserver.protocol.jid import JID
from homeserver.storage import dialect
from homeserver.storage.pubsub_shapes import (
    Exists,
    Full,
    ItemPage,
    NewNode,
    Publication,
    Published,
    StoredCount,
    StoredNode,
    Wanted,
)
from homeserver.storage.schema import pubsub_affiliation, pubsub_item, pubsub_node, pubsub_subscription

CACHED_PAYLOAD: Final = 8192
"""Larger payloads are not loaded with their node."""
PAGE_BYTES: Final = 1024 * 1024
"""A page ends where its payloads would be more than this; it has one item at least."""
_CHUNK: Final = 500

# Logins and publishers run these: SQLAlchemy spends more on a statement made anew than SQLite on its rows.
_NODES: Final = select(pubsub_node).where(pubsub_node.c.host == bindparam("host")).order_by(pubsub_node.c.name)
_SIZE: Final = (
    select(pubsub_node.c.held, pubsub_node.c.bytes).where(pubsub_node.c.id == bindparam("node")).with_for_update()
)
_BYTES_BEFORE: Final = select(func.length(pubsub_item.c.payload)).where(
    pubsub_item.c.node == bindparam("node"), pubsub_item.c.id == bindparam("item")
)
_FACTS: Final = select(
    _BYTES_BEFORE.scalar_subquery(),
    select(func.max(pubsub_item.c.at)).where(pubsub_item.c.node == bindparam("node")).scalar_subquery(),
    select(func.sum(pubsub_node.c.bytes))
    .where(pubsub_node.c.host == bindparam("host"), pubsub_node.c.id != bindparam("node"))
    .scalar_subquery(),
)
"""Bytes of the first item as it was, when the newest item was published, bytes of the host's other nodes."""
_PUT: Final = dialect.insert(
    pubsub_item,
    [getattr(pubsub_item.c, name) for name in ("node", "id", "at", "publisher", "payload")],
    "ON CONFLICT (node, id) DO UPDATE SET at = excluded.at, publisher = excluded.publisher, payload = excluded.payload",
)
_NOTE: Final = dialect.update(pubsub_node, pubsub_node.c.id, [pubsub_node.c.held, pubsub_node.c.bytes])


# --- nodes ----------------------------------------------------------------------------------------------------------


def load(conn: Connection, host: str) -> list[StoredNode]:
    """All nodes of a host."""
    rows = conn.execute(_NODES, {"host": host}).all()
    found = {row.id: StoredNode(_node(row), items=row.held, bytes=row.bytes) for row in rows}
    if not found:
        return []
    of_host = select(pubsub_node.c.id).where(pubsub_node.c.host == host)
    for row in conn.execute(select(pubsub_affiliation).where(pubsub_affiliation.c.node.in_(of_host))):
        found[row.node].affiliations[row.jid] = Affiliation(row.affiliation)
    for row in conn.execute(select(pubsub_subscription).where(pubsub_subscription.c.node.in_(of_host))):
        found[row.node].subscriptions[row.jid] = Subscription(JID.parse(row.jid), SubscriptionState(row.state))
    for row in _newest(conn, pubsub_item.c.node.in_(of_host)):
        if row.payload is not None:
            found[row.node].last = _item(row)
    return list(found.values())


def hosts_with_nodes(conn: Connection, hosts: Sequence[str]) -> list[str]:
    """Those of the hosts that have nodes."""
    found: list[str] = []
    for start in range(0, len(hosts), _CHUNK):
        of_hosts = pubsub_node.c.host.in_(hosts[start : start + _CHUNK])
        found += conn.execute(select(pubsub_node.c.host).where(of_hosts).distinct()).scalars()
    return found


def create(conn: Connection, new: NewNode) -> int:
    """Make a node; its id. Raises `Exists`."""
    try:
        with conn.begin_nested():
            made = conn.execute(
                pubsub_node.insert().values(
                    host=new.host.bare,
                    name=new.name,
                    creator=new.creator.bare,
                    created=new.created,
                    config=_encoded(new.config),
                    expire=new.config.item_expire,
                )
            )
    except IntegrityError as error:
        raise Exists from error
    assert made.inserted_primary_key is not None
    node: int = made.inserted_primary_key[0]
    if new.owner is not None:
        affiliate(conn, node, {new.owner.bare: Affiliation.OWNER})
    return node


def configure(conn: Connection, node: int, config: NodeConfig, keep: int) -> StoredNode | None:
    """Store another configuration and drop all but the newest ``keep`` items; what the node then is, None if it is
    gone."""
    conn.execute(
        update(pubsub_node).where(pubsub_node.c.id == node).values(config=_encoded(config), expire=config.item_expire)
    )
    row = conn.execute(select(pubsub_node).where(pubsub_node.c.id == node)).first()
    if row is None:
        return None
    count, size = _trim(conn, node, row.held, row.bytes, keep)
    last = _newest(conn, pubsub_item.c.node == node)
    newest = _item(last[0]) if last and last[0].payload is not None else None
    return StoredNode(_node(row), last=newest, items=count, bytes=size)


def remove(conn: Connection, node: int) -> None:
    """Take a node away with everything in it."""
    for table in (pubsub_item, pubsub_affiliation, pubsub_subscription):
        conn.execute(delete(table).where(table.c.node == node))
    conn.execute(delete(pubsub_node).where(pubsub_node.c.id == node))


def clear(conn: Connection, host: str) -> None:
    """Take away all nodes of a host, and what it is to the nodes of others."""
    for node in conn.execute(select(pubsub_node.c.id).where(pubsub_node.c.host == host)).scalars().all():
        remove(conn, node)
    conn.execute(delete(pubsub_affiliation).where(pubsub_affiliation.c.jid == host))
    conn.execute(
        delete(pubsub_subscription).where(
            or_(
                pubsub_subscription.c.jid == host,
                pubsub_subscription.c.jid.startswith(f"{host}/", autoescape=True),
            )
        )
    )


def hosts_naming(conn: Connection, jid: str) -> list[str]:
    """The hosts at whose nodes that bare address has an affiliation or a subscription."""
    related = select(pubsub_affiliation.c.node).where(pubsub_affiliation.c.jid == jid)
    subscribed = select(pubsub_subscription.c.node).where(
        or_(pubsub_subscription.c.jid == jid, pubsub_subscription.c.jid.startswith(f"{jid}/", autoescape=True))
    )
    named = or_(pubsub_node.c.id.in_(related), pubsub_node.c.id.in_(subscribed))
    return list(conn.execute(select(pubsub_node.c.host).where(named).distinct()).scalars())


# --- items ----------------------------------------------------------------------------------------------------------


def publish(conn: Connection, new: Publication) -> Published:
    """Store items, later ones as newer ones. Raises `Exists` and `Full`; then nothing is stored."""
    node = create(conn, new.node) if isinstance(new.node, NewNode) else new.node
    row = conn.execute(_SIZE, {"node": node}).one()
    first = new.items[0][0] if new.items else ""
    before, newest, others = conn.execute(_FACTS, {"node": node, "item": first, "host": new.host.bare}).one()
    at = max(new.now, (newest or 0) + 1)
    count, size = row.held, row.bytes
    publisher = new.publisher.to_bare()
    stored: list[Item] = []
    for id_, payload in new.items:
        if stored:
            before = conn.execute(_BYTES_BEFORE, {"node": node, "item": id_}).scalar()
        _PUT.run(conn, [(node, id_, at, publisher.bare, payload)])
        count += before is None
        size += len(payload) - (before or 0)
        stored.append(Item(id_, publisher, at, payload))
        at += 1
    count, size = _trim(conn, node, count, size, new.keep)
    taken = size + (int(others or 0) if new.shared else 0)
    if taken > new.room and size > row.bytes:
        raise Full
    return Published(node, tuple(stored), count, size)


def page(conn: Connection, wanted: Wanted) -> ItemPage:
    """Items of a node."""
    valid = and_(_of(wanted.node), pubsub_item.c.at >= wanted.since)
    if wanted.ids is not None:
        found: list[Any] = []
        for start in range(0, len(wanted.ids), _CHUNK):
            chosen = pubsub_item.c.id.in_(wanted.ids[start : start + _CHUNK])
            found += conn.execute(select(pubsub_item).where(valid, chosen)).all()
        found.sort(key=lambda row: -row.at)
        return ItemPage(tuple(_item(row) for row in found), len(found))
    total = conn.execute(select(func.count()).select_from(pubsub_item).where(valid)).scalar() or 0
    query = select(pubsub_item).where(valid)
    backwards = wanted.before is not None
    bound = wanted.after or wanted.before
    if bound:
        edge = conn.execute(select(pubsub_item.c.at).where(valid, pubsub_item.c.id == bound)).scalar()
        if edge is None:
            return ItemPage((), total, known=False)
        query = query.where(pubsub_item.c.at > edge if backwards else pubsub_item.c.at < edge)
    query = query.order_by(pubsub_item.c.at if backwards else pubsub_item.c.at.desc())
    query = query.limit(_fitting(conn, query, wanted.limit))
    items = [_item(row) for row in conn.execute(query)]
    if backwards:
        items.reverse()
    index = 0
    if items and (bound or backwards):
        newer = and_(valid, pubsub_item.c.at > items[0].published_at)
        index = conn.execute(select(func.count()).select_from(pubsub_item).where(newer)).scalar() or 0
    return ItemPage(tuple(items), total, index)


def item_ids(conn: Connection, node: int, since: int, limit: int) -> list[str]:
    """Ids of the newest items, newest first."""
    query = select(pubsub_item.c.id).where(_of(node), pubsub_item.c.at >= since).order_by(pubsub_item.c.at.desc())
    return list(conn.execute(query.limit(limit)).scalars())


def publishers(conn: Connection, node: int, ids: Sequence[str]) -> dict[str, str]:
    """Those of the items that exist, with the bare address of their publisher."""
    query = select(pubsub_item.c.id, pubsub_item.c.publisher).where(_of(node), pubsub_item.c.id.in_(ids))
    return {row.id: row.publisher for row in conn.execute(query)}


def retract(conn: Connection, node: int, ids: Sequence[str] | None) -> StoredCount:
    """Take items out, all of them where ``ids`` is None; what is left."""
    doomed = _of(node) if ids is None else and_(_of(node), pubsub_item.c.id.in_(ids))
    conn.execute(delete(pubsub_item).where(doomed))
    count, size = _measure(conn, node)
    last = _newest(conn, pubsub_item.c.node == node)
    return StoredCount(count, size, _item(last[0]) if last and last[0].payload is not None else None)


def expire(conn: Connection, now: int) -> list[str]:
    """Take out items whose time has come (``now`` in microseconds); the hosts that lost some."""
    hosts = set()
    timed = select(pubsub_node.c.id, pubsub_node.c.host, pubsub_node.c.expire).where(pubsub_node.c.expire.is_not(None))
    for node in conn.execute(timed).all():
        before = now - node.expire * 1_000_000
        if conn.execute(delete(pubsub_item).where(_of(node.id), pubsub_item.c.at < before)).rowcount:
            _measure(conn, node.id)
            hosts.add(node.host)
    return sorted(hosts)


# --- who is what ----------------------------------------------------------------------------------------------------


def affiliate(conn: Connection, node: int, changes: dict[str, Affiliation]) -> None:
    """Set affiliations; `Affiliation.NONE` removes."""
    for jid, affiliation in changes.items():
        if affiliation is Affiliation.NONE:
            conn.execute(
                delete(pubsub_affiliation).where(pubsub_affiliation.c.node == node, pubsub_affiliation.c.jid == jid)
            )
            continue
        made = dialect.upsert(conn, pubsub_affiliation).values(node=node, jid=jid, affiliation=affiliation.value)
        keys = [pubsub_affiliation.c.node, pubsub_affiliation.c.jid]
        conn.execute(made.on_conflict_do_update(index_elements=keys, set_={"affiliation": affiliation.value}))


def subscribe(conn: Connection, node: int, changes: Iterable[Subscription]) -> None:
    """Set subscriptions; `SubscriptionState.NONE` removes."""
    for change in changes:
        jid = str(change.jid)
        if change.state is SubscriptionState.NONE:
            conn.execute(
                delete(pubsub_subscription).where(pubsub_subscription.c.node == node, pubsub_subscription.c.jid == jid)
            )
            continue
        made = dialect.upsert(conn, pubsub_subscription).values(node=node, jid=jid, state=change.state.value)
        keys = [pubsub_subscription.c.node, pubsub_subscription.c.jid]
        conn.execute(made.on_conflict_do_update(index_elements=keys, set_={"state": change.state.value}))


# --- rows -----------------------------------------------------------------------------------------------------------


def _of(node: int) -> Any:
    return pubsub_item.c.node == node


def _fitting(conn: Connection, query: Any, limit: int | None) -> int:
    """How many of the rows, ``limit`` at most, fit a page."""
    sizes = conn.execute(query.with_only_columns(func.length(pubsub_item.c.payload)).limit(limit)).scalars()
    count = total = 0
    for size in sizes:
        total += size
        if count and total > PAGE_BYTES:
            break
        count += 1
    return count


def _newest(conn: Connection, which: Any) -> Sequence[Any]:
    """The newest item of each node; the payload is None where it is large."""
    newest = (
        select(pubsub_item.c.node, func.max(pubsub_item.c.at).label("at"))
        .where(which)
        .group_by(pubsub_item.c.node)
        .subquery()
    )
    small = case((func.length(pubsub_item.c.payload) <= CACHED_PAYLOAD, pubsub_item.c.payload)).label("payload")
    query = select(pubsub_item.c.node, pubsub_item.c.id, pubsub_item.c.at, pubsub_item.c.publisher, small)
    on = and_(pubsub_item.c.node == newest.c.node, pubsub_item.c.at == newest.c.at)
    return conn.execute(query.join(newest, on)).all()


def _trim(conn: Connection, node: int, count: int, size: int, keep: int) -> tuple[int, int]:
    """Drop the oldest items above ``keep``, note number and bytes of what is left, and return them."""
    if count > keep:
        query = select(pubsub_item.c.id, func.length(pubsub_item.c.payload).label("size")).where(_of(node))
        doomed = conn.execute(query.order_by(pubsub_item.c.at).limit(count - keep)).all()
        for start in range(0, len(doomed), _CHUNK):
            ids = [row.id for row in doomed[start : start + _CHUNK]]
            conn.execute(delete(pubsub_item).where(_of(node), pubsub_item.c.id.in_(ids)))
        count -= len(doomed)
        size -= sum(row.size for row in doomed)
    _note(conn, node, count, size)
    return count, size


def _measure(conn: Connection, node: int) -> tuple[int, int]:
    total = func.coalesce(func.sum(func.length(pubsub_item.c.payload)), 0)
    count, size = conn.execute(select(func.count(), total).select_from(pubsub_item).where(_of(node))).one()
    _note(conn, node, count, int(size))
    return count, int(size)


def _note(conn: Connection, node: int, count: int, size: int) -> None:
    _NOTE.run(conn, [(node, count, size)])


def _node(row: Any) -> Node:
    config = msgspec.json.decode(row.config, type=NodeConfig)
    return Node(row.id, JID.parse(row.host), row.name, config, JID.parse(row.creator), row.created)


def _item(row: Any) -> Item:
    return Item(row.id, JID.parse(row.publisher), row.at, bytes(row.payload))


def _encoded(config: NodeConfig) -> str:
    return msgspec.json.encode(config).decode()
