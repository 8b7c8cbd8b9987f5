"""What a server process costs, read from Linux's /proc, and free loopback addresses for servers to listen on."""

import os
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def family(pids: Iterable[int]) -> list[int]:
    """Return the given process ids and those of all their living descendants."""
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting.extend(int(child) for child in task.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user plus system time used so far by the processes, their threads and their children, in seconds.

    Children that have ended count through the waited-for times of their parent. Raises FileNotFoundError when one of
    the processes has gone: a figure without it would be too low.
    """
    ticks = 0
    for pid in family(pids):
        # The command name (field 2) may hold spaces and brackets; everything after its last bracket is numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def memory_kib(pids: Iterable[int]) -> int:
    """Return the proportional set size of the processes and their children in KiB (pages shared by n count 1/n)."""
    total = 0
    for pid in family(pids):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port nobody listens on at that moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_loopback_hosts(ports: Sequence[int], count: int) -> list[str]:
    """Return `count` addresses of 127.0.0.0/8 on which all the given fixed ports are free.

    Raises OSError when no such address turns up in a thousand tries.
    """
    hosts: list[str] = []
    for _ in range(1000):
        host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"
        if host not in hosts and all(_is_free(host, port) for port in ports):
            hosts.append(host)
        if len(hosts) == count:
            return hosts
    raise OSError(f"no loopback address has the ports {list(ports)} free")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
