"""What `parley check` says about one subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one subject; `remedy` says what to do unless it is fine."""

    level: Level
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.subject}: {self.text}"
        return f"{line}; {self.remedy}" if self.remedy else line
