"""`./parley bench`: run the workloads against fresh servers, ours and a peer in turn, and print medians and ratios."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks import report
from tests.benchmarks.parley import ParleyRig
from tests.benchmarks.prosody import ProsodyRig, is_installed
from tests.benchmarks.servers import Rig, ServerFailure
from tests.benchmarks.wire import LoginError
from tests.benchmarks.workloads import QUICK, WORKLOADS, Figures, GeneratorFailure, RigKind, Scale

_RIGS: dict[str, type[Rig]] = {rig.name: rig for rig in (ParleyRig, ProsodyRig)}
_FAILURES = (GeneratorFailure, ServerFailure, LoginError, OSError, subprocess.TimeoutExpired)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./parley bench", description=__doc__)
    parser.add_argument("--peer", choices=["prosody"], help="measure this server in turn with ours and print ratios")
    parser.add_argument("--server", choices=sorted(_RIGS), default="parley", help="the server under test")
    parser.add_argument("--only", action="append", choices=list(WORKLOADS), help="this workload; may be repeated")
    parser.add_argument("--runs", type=int, default=3, help="runs of each server, in turn (default 3)")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works, measures little")
    parser.add_argument("--json", action="store_true", help="print every run as JSON instead of tables")
    options = parser.parse_args(arguments)
    if options.peer == options.server:
        parser.error("the peer is the server under test")
    if "prosody" in (options.peer, options.server) and not is_installed():
        parser.error("Prosody is not installed")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(workload: str, kind: RigKind, scale: Scale) -> Figures | None:
    """Run a workload once; a failure is told and gives None."""
    try:
        figures = WORKLOADS[workload](kind, scale)
    except _FAILURES as error:
        _say(f"  {kind.name}: FAILED: {error}")
        return None
    mark = "  GENERATOR-BOUND" if report.is_generator_bound(figures) else ""
    _say(f"  {kind.name}: " + " ".join(f"{name}={value:.4g}" for name, value in figures.items()) + mark)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0 when every run succeeded and every limit holds, otherwise 1."""
    options = _arguments(arguments)
    scale = QUICK if options.quick else Scale()
    kinds = [_RIGS[name] for name in (options.server, options.peer) if name]
    results: dict[str, dict[str, list[Figures]]] = {}
    failed = False
    for workload in options.only or WORKLOADS:
        results[workload] = {kind.name: [] for kind in kinds}
        for number in range(options.runs):
            _say(f"{workload}, run {number + 1} of {options.runs}")
            for kind in kinds:
                figures = _run(workload, kind, scale)
                if figures is None:
                    failed = True
                else:
                    results[workload][kind.name].append(figures)
    if options.json:
        print(json.dumps(report.as_json(results, options.server, options.peer), indent=1))
    else:
        titles = {name: (run.__doc__ or "").partition("\n")[0] for name, run in WORKLOADS.items()}
        print(report.as_text(results, options.server, options.peer, titles))
    missed = [verdict for verdict in report.verdicts(results, options.server, options.peer) if not verdict.passed]
    return 1 if failed or missed else 0
