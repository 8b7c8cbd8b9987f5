"""Medians, ratios and verdicts of a benchmark, as text and as JSON."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.workloads import Figures

GENERATOR_BOUND = 0.70
"""A run in which the generator used more than this share of one core says more about the generator."""

Runs = Mapping[str, Mapping[str, Sequence[Figures]]]
"""Workload to product to the figures of its runs."""

_LABELS = {
    "cpu_s_per_1000": ("server CPU s / 1000 messages", "{:.4f}"),
    "messages_per_s": ("messages / s", "{:.0f}"),
    "p50_ms": ("latency p50 ms", "{:.2f}"),
    "p99_ms": ("latency p99 ms", "{:.2f}"),
    "late_ms": ("generator late at most ms", "{:.2f}"),
    "lost": ("messages lost", "{:.0f}"),
    "kib_per_connection": ("memory KiB / connection", "{:.1f}"),
    "page_cpu_ms_small": ("server CPU ms / page, small archive", "{:.2f}"),
    "page_cpu_ms_large": ("server CPU ms / page, large archive", "{:.2f}"),
    "page_p50_ms_small": ("page p50 ms, small archive", "{:.2f}"),
    "page_p50_ms_large": ("page p50 ms, large archive", "{:.2f}"),
    "page_p99_ms_small": ("page p99 ms, small archive", "{:.2f}"),
    "page_p99_ms_large": ("page p99 ms, large archive", "{:.2f}"),
    "presence_cpu_us": ("server CPU us / presence delivered", "{:.1f}"),
    "presence_round_p50_ms": ("until the last has it, p50 ms", "{:.2f}"),
    "presence_generator_us": ("generator CPU us / presence", "{:.1f}"),
    "event_cpu_us": ("server CPU us / notification", "{:.1f}"),
    "event_round_p50_ms": ("until the last is notified, p50 ms", "{:.2f}"),
    "event_generator_us": ("generator CPU us / notification", "{:.1f}"),
    "arrival_cpu_ms": ("server CPU ms / login and logout", "{:.2f}"),
    "arrival_ping_p99_ms": ("ping p99 ms beside logins", "{:.1f}"),
    "arrivals_at_once_s": ("seconds until all at once were in", "{:.2f}"),
    "arrivals_at_once_ping_p99_ms": ("ping p99 ms while they come", "{:.1f}"),
    "growth": ("CPU large / CPU small", "{:.2f}"),
    "seconds": ("seconds to the first login", "{:.3f}"),
    "start_cpu_s": ("server CPU s until then", "{:.2f}"),
    "upload_mib_s_plain": ("upload MiB / s, plain HTTP", "{:.0f}"),
    "upload_mib_s_tls": ("upload MiB / s, TLS", "{:.0f}"),
    "upload_growth_mib_plain": ("memory growth MiB, plain HTTP", "{:.1f}"),
    "upload_growth_mib_tls": ("memory growth MiB, TLS", "{:.1f}"),
    "nginx_mib_s_plain": ("nginx PUT MiB / s, plain HTTP", "{:.0f}"),
    "nginx_mib_s_tls": ("nginx PUT MiB / s, TLS", "{:.0f}"),
    "upload_of_nginx_plain": ("ours / nginx, plain HTTP", "{:.2f}"),
    "upload_of_nginx_tls": ("ours / nginx, TLS", "{:.2f}"),
    "classic_login_cpu_ms": ("server CPU ms / login, SCRAM", "{:.2f}"),
    "inline_login_cpu_ms": ("server CPU ms / login, SASL2 and Bind 2", "{:.2f}"),
    "by_token_login_cpu_ms": ("server CPU ms / login, token and Bind 2", "{:.2f}"),
    "classic_ping_p99_ms": ("ping p99 ms beside logins, SCRAM", "{:.1f}"),
    "inline_ping_p99_ms": ("ping p99 ms beside logins, SASL2", "{:.1f}"),
    "by_token_ping_p99_ms": ("ping p99 ms beside logins, token", "{:.1f}"),
    "herd_seconds": ("seconds until all at once are in", "{:.2f}"),
    "herd_ping_p99_ms": ("ping p99 ms while they come", "{:.1f}"),
    "generator_us": ("generator CPU us / message", "{:.1f}"),
    "generator_share": ("generator share of a core", "{:.2f}"),
}


@dataclass(frozen=True)
class Limit:
    """A bound on a median of ours, or, with `of_peer`, on its ratio to the peer's."""

    workload: str
    figure: str
    at_most: float | None = None
    at_least: float | None = None
    of_peer: bool = False

    def holds(self, value: float) -> bool:
        """Say whether the value is within the bound."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def __str__(self) -> str:
        bound = f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"
        return f"{bound} of the peer's" if self.of_peer else bound


LIMITS = (
    Limit("closed", "cpu_s_per_1000", at_most=0.2, of_peer=True),
    Limit("closed", "messages_per_s", at_least=4.0, of_peer=True),
    Limit("closed", "lost", at_most=0),
    Limit("open", "lost", at_most=0),
    Limit("federating", "cpu_s_per_1000", at_most=0.5, of_peer=True),
    Limit("federating", "lost", at_most=0),
    Limit("idle", "kib_per_connection", at_most=30),
    Limit("idle-tls", "kib_per_connection", at_most=60),
    Limit("presence", "presence_cpu_us", at_most=0.25, of_peer=True),
    Limit("events", "event_cpu_us", at_most=0.25, of_peer=True),
    Limit("arrivals", "arrival_cpu_ms", at_most=4.0),
    Limit("arrivals", "arrival_ping_p99_ms", at_most=50.0),
    Limit("arrivals", "arrivals_at_once_ping_p99_ms", at_most=200.0),
    Limit("idle-at-home", "kib_per_connection", at_most=60),
    Limit("idle-at-home-tls", "kib_per_connection", at_most=90),
    Limit("paging", "page_cpu_ms_small", at_most=4.0),
    Limit("paging", "page_cpu_ms_large", at_most=4.0),
    Limit("paging", "growth", at_most=1.25),
    Limit("start", "seconds", at_most=1.0),
    Limit("upload", "upload_growth_mib_plain", at_most=8.0),
    Limit("upload", "upload_growth_mib_tls", at_most=8.0),
    Limit("upload", "upload_of_nginx_plain", at_least=0.3),
    Limit("upload", "upload_of_nginx_tls", at_least=0.3),
    Limit("logins", "classic_login_cpu_ms", at_most=4.0),
    Limit("logins", "classic_ping_p99_ms", at_most=50.0),
    Limit("logins", "herd_ping_p99_ms", at_most=200.0),
)


@dataclass(frozen=True)
class Verdict:
    """A limit with the value it was held against."""

    limit: Limit
    value: float

    @property
    def passed(self) -> bool:
        """Whether the limit holds."""
        return self.limit.holds(self.value)


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of every figure over the runs."""
    return {name: median(run[name] for run in runs) for name in runs[0]} if runs else {}


def is_generator_bound(figures: Figures) -> bool:
    """Say whether the generator, not the server, may have set the pace of this run."""
    return figures.get("generator_share", 0.0) > GENERATOR_BOUND


def verdicts(results: Runs, own: str, peer: str | None) -> list[Verdict]:
    """Hold every limit whose figures were measured against the medians."""
    found = []
    for limit in LIMITS:
        products = results.get(limit.workload, {})
        value = medians(products.get(own, [])).get(limit.figure)
        if value is None:
            continue
        if limit.of_peer:
            base = medians(products.get(peer, [])).get(limit.figure) if peer else None
            if not base:
                continue
            value /= base
        found.append(Verdict(limit, value))
    return found


def machine() -> dict[str, Any]:
    """Describe where the figures were measured: they mean nothing elsewhere."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def as_text(results: Runs, own: str, peer: str | None, titles: Mapping[str, str]) -> str:
    """Return the tables and the verdicts."""
    lines = [" ".join(f"{name}={value}" for name, value in machine().items())]
    checked = verdicts(results, own, peer)
    for workload, products in results.items():
        lines += ["", f"{workload}: {titles[workload]}"]
        lines += _table(products, own, peer)
        for verdict in checked:
            if verdict.limit.workload == workload:
                word = "PASS" if verdict.passed else "FAIL"
                lines.append(f"  {word}  {_LABELS[verdict.limit.figure][0]}: {verdict.value:.3g} ({verdict.limit})")
    return "\n".join(lines)


def _table(products: Mapping[str, Sequence[Figures]], own: str, peer: str | None) -> list[str]:
    figures = {name: medians(runs) for name, runs in products.items()}
    ours, theirs = figures.get(own, {}), figures.get(peer, {}) if peer else {}
    header = f"  {'median of ' + '/'.join(str(len(runs)) for runs in products.values()) + ' runs':<38}{own:>12}"
    lines = [header + (f"{peer:>12}{'ratio':>9}" if peer else "")]
    for key, (label, pattern) in _LABELS.items():
        if key not in ours and key not in theirs:
            continue
        line = f"  {label:<38}" + "".join(
            f"{pattern.format(values[key]) if key in values else '-':>12}"
            for values in ((ours, theirs) if peer else (ours,))
        )
        if key in ours and theirs.get(key):
            line += f"{ours[key] / theirs[key]:>9.3f}"
        lines.append(line)
    for name, runs in products.items():
        bound = sum(is_generator_bound(run) for run in runs)
        if bound:
            lines.append(f"  GENERATOR-BOUND: {bound} of {len(runs)} runs of {name}")
    return lines


def as_json(results: Runs, own: str, peer: str | None) -> dict[str, Any]:
    """Return everything measured: single runs, medians and verdicts."""
    return {
        "machine": machine(),
        "runs": results,
        "medians": {
            workload: {name: medians(runs) for name, runs in products.items()} for workload, products in results.items()
        },
        "verdicts": [
            {
                "workload": verdict.limit.workload,
                "figure": verdict.limit.figure,
                "limit": str(verdict.limit),
                "value": verdict.value,
                "passed": verdict.passed,
            }
            for verdict in verdicts(results, own, peer)
        ],
    }
