"""Tasks between a proven account and success: a client gives the server verifiers that it lacks (XEP-0480, XEP-0388 s2.5).

A server that knows a password only by its SCRAM-SHA-1 verifier cannot make one for a better hash; the client, who has
the password, can.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.sasl import SaslFault
from homeserver.protocol.scram import Verifier, verifier_of
from homeserver.protocol.xml import Element, children, text_of

PREFIX: Final = "UPGR-SCRAM-"


@dataclass(frozen=True, slots=True)
class Salt:
    """What the client derives from: the hash's name ("SHA-512"), salt, rounds."""

    hash_name: str
    salt: bytes
    iterations: int


def feature(hash_names: Iterable[str]) -> str:
    """``<upgrade/>`` elements for ``<authentication/>`` (XEP-0480 s2.1)."""
    return "".join(f"<upgrade xmlns='{ns.SASL_UPGRADE}'>{PREFIX}{name}</upgrade>" for name in hash_names)


def wanted_upgrades(request: Element, offered: Sequence[str]) -> tuple[str, ...]:
    """Hash names that the client asks for and that were offered; what was not is passed over."""
    asked = {(found.text or "").strip() for found in children(request, ns.SASL_UPGRADE, "upgrade")}
    return tuple(name for name in offered if PREFIX + name in asked)


class Upgrades:
    """The tasks of one login, one after the other. Every method returns what is to be written or raises `SaslFault`."""

    def __init__(self, salts: Sequence[Salt]) -> None:
        self._left = list(salts)
        self._begun = False

    @property
    def is_done(self) -> bool:
        """Whether no task is left."""
        return not self._left

    def announce(self, data: str) -> str:
        """``<continue/>`` for the next task; ``data`` is the mechanism's last word in base64, or ""."""
        said = f"<additional-data>{data}</additional-data>" if data else ""
        return f"<continue xmlns='{ns.SASL2}'>{said}<tasks><task>{PREFIX}{self._left[0].hash_name}</task></tasks></continue>"

    def begin(self, request: Element) -> str:
        """``<next/>``: the client takes the task."""
        task = self._left[0]
        if self._begun or request.get("task") != PREFIX + task.hash_name:
            raise SaslFault("malformed-request", "another task is next")
        self._begun = True
        salt = base64.b64encode(task.salt).decode()
        return (
            f"<task-data xmlns='{ns.SASL2}'><salt xmlns='{ns.SCRAM_UPGRADE}' iterations='{task.iterations}'>{salt}</salt>"
            "</task-data>"
        )

    def finish(self, answer: Element) -> tuple[str, Verifier]:
        """``<task-data/>``: hash name and verifier of the task that is done."""
        if not self._begun:
            raise SaslFault("malformed-request", "the task was not begun")
        task = self._left.pop(0)
        self._begun = False
        try:
            salted = base64.b64decode((text_of(answer, ns.SCRAM_UPGRADE, "hash") or "").strip(), validate=True)
            return task.hash_name, verifier_of(salted, task.salt, task.iterations, task.hash_name)
        except binascii.Error as error:
            raise SaslFault("incorrect-encoding") from error
        except ValueError as error:
            raise SaslFault("malformed-request", "hash has not the length of its mechanism") from error
