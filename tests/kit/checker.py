"""The ledger of a storm: what was sent, acknowledged, received and archived, and what that says about the server.

Pure bookkeeping: no sockets, no clock. The server is innocent only if every number of `Verdict.failures` is zero.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One sent message: bare JIDs of sender and recipient, and its number in that direction (from 1)."""

    sender: str
    recipient: str
    number: int

    def __str__(self) -> str:
        return f"{self.sender} to {self.recipient} number {self.number}"

    def body(self) -> str:
        """The text that carries the key."""
        return f"storm {self.sender} {self.recipient} {self.number}"

    @staticmethod
    def of_body(text: str) -> "Key | None":
        """The key in a message text; None if it is no storm message."""
        parts = text.split(" ")
        if len(parts) != 4 or parts[0] != "storm" or not parts[3].isdecimal():
            return None
        return Key(parts[1], parts[2], int(parts[3]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The numbers of one run. Times are seconds from the restart to the first acknowledgement after it.

    ``lost_hard``: acknowledged, and neither received nor in the recipient's archive. ``lost_mam``: acknowledged, and
    missing in the archive of sender or recipient (an archive
    that was not handed in is empty). ``lost_live``: acknowledged and never received on a stream; counted as
    lost only where clients have no archive. ``doubled``: two archive entries or two stanza-ids for one sent message, or
    delivered again after the client's acknowledgement, by ``<a/>`` or by the ``h`` of a resumption. ``ghosts``: received
    or archived, never sent. ``bounced``: acknowledged, then returned to the sender as an error.

    ``repeated`` is not doubled: what a killed server had sent after it last wrote down how far the client was may come
    once more when the client resumes, with the same stanza-id. It must be the end of what the client had received, the
    server must have been killed since the client was last connected, and no message comes so twice.
    """

    sent: int
    acknowledged: int
    received: int
    lost_hard: int
    lost_mam: int
    lost_live: int
    doubled_archive: int
    doubled_ids: int
    doubled_after_ack: int
    doubled_after_resume: int
    out_of_order_live: int
    out_of_order_archive: int
    ghosts: int
    bounced: int
    repeated: int
    archive_checked: bool
    recoveries: tuple[float, ...] = ()
    examples: tuple[str, ...] = field(default=(), repr=False)

    @property
    def doubled(self) -> int:
        """All four kinds of doubling."""
        return self.doubled_archive + self.doubled_ids + self.doubled_after_ack + self.doubled_after_resume

    @property
    def out_of_order(self) -> int:
        """Swaps in live streams and archives."""
        return self.out_of_order_live + self.out_of_order_archive

    @property
    def recovery_p50(self) -> float:
        """Median recovery in seconds; 0 without a restart."""
        return median(self.recoveries) if self.recoveries else 0.0

    @property
    def recovery_max(self) -> float:
        """Longest recovery in seconds; 0 without a restart."""
        return max(self.recoveries, default=0.0)

    def failures(self) -> dict[str, int]:
        """The broken promises with their counts; empty if all were kept."""
        counts = {
            "lost_hard": self.lost_hard,
            "lost_mam": self.lost_mam,
            "doubled": self.doubled,
            "out_of_order": self.out_of_order,
            "ghosts": self.ghosts,
            "bounced": self.bounced,
        }
        return {name: count for name, count in counts.items() if count}

    def report(self) -> str:
        """The numbers as lines of text, with up to 20 examples of what went wrong."""
        lines = [
            f"sent {self.sent}, acknowledged {self.acknowledged}, received {self.received}",
            f"lost_hard {self.lost_hard}, lost_mam {self.lost_mam if self.archive_checked else 'not asked'}, "
            f"never received live {self.lost_live}, bounced {self.bounced}, ghosts {self.ghosts}",
            f"doubled {self.doubled} (archive {self.doubled_archive}, stanza-ids {self.doubled_ids}, "
            f"after acknowledgement {self.doubled_after_ack}, after resumption {self.doubled_after_resume})",
            f"came once more when a client resumed after a kill: {self.repeated}",
            f"out of order {self.out_of_order} (live {self.out_of_order_live}, archive {self.out_of_order_archive})",
            f"recovery after {len(self.recoveries)} restarts: p50 {self.recovery_p50:.2f} s, "
            f"max {self.recovery_max:.2f} s",
        ]
        return "\n".join([*lines, *("  " + example for example in self.examples)])


@dataclass(slots=True)
class _Resumption:
    """What a client had received and the server was told at a resumption, oldest first, and what of it came again."""

    covered: list[Key]
    after_kill: bool
    repeated: set[Key] = field(default_factory=set)

    def strays(self) -> set[Key]:
        """Repeated ones that are not the end of what was received."""
        end: set[Key] = set()
        for key in reversed(self.covered):
            if key not in self.repeated:
                break
            end.add(key)
        return self.repeated - end


class Ledger:
    """Takes notes during a storm; `verdict` judges. Every method may be called at any time and in any order."""

    def __init__(self) -> None:
        self._sent: set[Key] = set()
        self._acknowledged: set[Key] = set()
        self._bounced: set[Key] = set()
        self._received: dict[Key, list[str | None]] = defaultdict(list)
        self._live_order: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._confirmed: set[Key] = set()
        self._covered: dict[Key, _Resumption] = {}
        self._resumptions: list[_Resumption] = []
        self._killed: set[str] = set()
        self._repeated: set[Key] = set()
        self._again: list[Key] = []
        self._again_resumed: list[Key] = []
        self._ghosts: list[str] = []
        self._archives: dict[str, list[tuple[str, Key]]] = {}
        self._recoveries: list[float] = []

    def sent(self, key: Key) -> None:
        """The sender wrote it to a stream; repeats of one key are one message."""
        self._sent.add(key)

    def acknowledged(self, key: Key) -> None:
        """The server took responsibility: an ``<a h/>`` or ``<resumed h/>`` covers it (XEP-0198 s4, s5)."""
        self._acknowledged.add(key)

    def bounced(self, key: Key) -> None:
        """The sender got it back as an error."""
        self._bounced.add(key)

    def received(self, key: Key, sender: str, recipient: str, stanza_id: str | None) -> None:
        """It arrived on a stream of ``recipient`` with ``sender`` as bare from and the recipient's stanza-id if any."""
        if key not in self._sent or key.sender != sender or key.recipient != recipient:
            self._ghosts.append(f"ghost on a stream of {recipient}: {key} from {sender}")
            return
        if key in self._confirmed:
            self._again.append(key)
        elif key in self._covered:
            resumption = self._covered[key]
            if resumption.after_kill and key not in self._repeated:
                self._repeated.add(key)
                resumption.repeated.add(key)
            else:
                self._again_resumed.append(key)
        if key not in self._received:
            self._live_order[key.sender, key.recipient].append(key.number)
        self._received[key].append(stanza_id)

    def confirmed(self, key: Key) -> None:
        """The recipient's ``<a/>`` for it has reached the server for certain: something behind it was answered."""
        self._confirmed.add(key)

    def killed(self, recipients: Iterable[str]) -> None:
        """The server of these was killed: their next resumption may bring the last messages once more."""
        self._killed.update(recipients)

    def covered(self, recipient: str, keys: Sequence[Key]) -> None:
        """The recipient's ``<resume h/>`` covered these, oldest first, and the server answered ``<resumed/>``
        (XEP-0198 s5)."""
        resumption = _Resumption(list(keys), recipient in self._killed)
        self._killed.discard(recipient)
        self._resumptions.append(resumption)
        for key in keys:
            self._covered[key] = resumption

    def archived(self, owner: str, entries: Iterable[tuple[str, Key]]) -> None:
        """The whole archive of ``owner``, oldest first: (archive id, key)."""
        self._archives[owner] = list(entries)

    def recovered(self, seconds: float) -> None:
        """One restart: seconds until the first acknowledgement."""
        self._recoveries.append(seconds)

    @property
    def acknowledgements(self) -> int:
        """How many messages are acknowledged."""
        return len(self._acknowledged)

    def unreceived(self, recipients: Iterable[str]) -> int:
        """How many acknowledged messages to ``recipients`` did not arrive on a stream yet."""
        wanted = set(recipients)
        return sum(1 for key in self._acknowledged if key.recipient in wanted and key not in self._received)

    def verdict(self, *, archive: bool = True) -> Verdict:
        """Judge. Without ``archive`` clients cannot ask archives: what was not received live is lost."""
        examples: list[str] = []
        in_archive = {owner: {key for _, key in entries} for owner, entries in self._archives.items()}
        lost_live = {key for key in self._acknowledged if key not in self._received}
        lost_hard = {key for key in lost_live if not archive or key not in in_archive.get(key.recipient, set())}
        lost_mam = {
            (key, owner)
            for key in self._acknowledged
            for owner in ({key.sender, key.recipient} if archive else ())
            if key not in in_archive.get(owner, set())
        }
        doubled_archive = self._doubled_archive(examples)
        doubled_ids = self._doubled_ids(examples)
        live_swaps = sum(_swaps(numbers) for numbers in self._live_order.values())
        archive_swaps = self._archive_swaps()
        examples += [
            f"out of order live: {sender} to {recipient}: {_swaps(numbers)} of {len(numbers)}"
            for (sender, recipient), numbers in self._live_order.items()
            if _swaps(numbers)
        ]
        ghosts = self._ghosts + [
            f"ghost in the archive of {owner}: {key}"
            for owner, entries in self._archives.items()
            for _, key in entries
            if key not in self._sent or owner not in (key.sender, key.recipient)
        ]
        lost = [f"lost for good: {key}" for key in sorted(lost_hard)]
        lost += [f"lost in the archive of {owner}: {key}" for key, owner in sorted(lost_mam)]
        examples += [f"delivered again after acknowledgement: {key}" for key in self._again]
        strays = {key for resumption in self._resumptions for key in resumption.strays()}
        again_resumed = self._again_resumed + sorted(strays)
        examples += [f"delivered again though the resumption covered it: {key}" for key in again_resumed]
        return Verdict(
            sent=len(self._sent),
            acknowledged=len(self._acknowledged),
            received=len(self._received),
            lost_hard=len(lost_hard),
            lost_mam=len(lost_mam),
            lost_live=len(lost_live),
            doubled_archive=doubled_archive,
            doubled_ids=doubled_ids,
            doubled_after_ack=len(self._again),
            doubled_after_resume=len(again_resumed),
            out_of_order_live=live_swaps,
            out_of_order_archive=archive_swaps,
            ghosts=len(ghosts),
            bounced=len(self._bounced & self._acknowledged),
            repeated=len(self._repeated - strays),
            archive_checked=archive,
            recoveries=tuple(self._recoveries),
            examples=tuple((lost + examples + ghosts)[:20]),
        )

    def _doubled_archive(self, examples: list[str]) -> int:
        doubled = 0
        for owner, entries in self._archives.items():
            seen: set[Key] = set()
            for archive_id, key in entries:
                if key in seen:
                    doubled += 1
                    examples.append(f"twice in the archive of {owner}: {key} as {archive_id}")
                seen.add(key)
        return doubled

    def _doubled_ids(self, examples: list[str]) -> int:
        """Messages whose live stanza-ids differ among themselves or from the recipient's archive entries.

        A message that is twice in the archive is counted there and not again, unless a live id is in no entry.
        """
        archived: dict[Key, set[str]] = defaultdict(set)
        for owner, entries in self._archives.items():
            for archive_id, key in entries:
                if key.recipient == owner:
                    archived[key].add(archive_id)
        doubled = 0
        for key, ids in self._received.items():
            live = {one for one in ids if one is not None}
            known = archived.get(key, set())
            wrong = bool(live - known) if known else len(live) > 1
            if wrong:
                doubled += 1
                examples.append(f"two stanza-ids: {key} live {sorted(live)} archive {sorted(known)}")
        return doubled

    def _archive_swaps(self) -> int:
        total = 0
        for entries in self._archives.values():
            orders: dict[tuple[str, str], list[int]] = defaultdict(list)
            seen: set[Key] = set()
            for _, key in entries:
                if key not in seen:
                    orders[key.sender, key.recipient].append(key.number)
                seen.add(key)
            total += sum(_swaps(numbers) for numbers in orders.values())
        return total


def _swaps(numbers: Sequence[int]) -> int:
    """How many numbers come after a higher one."""
    highest = 0
    swaps = 0
    for number in numbers:
        if number < highest:
            swaps += 1
        highest = max(highest, number)
    return swaps
