"""Medians, ratios and limits of the report."""

import json

from tests.benchmarks import report

RESULTS = {
    "closed": {
        "ours": [
            {"cpu_s_per_1000": 0.03, "messages_per_s": 30000.0, "lost": 0.0, "generator_share": 0.5},
            {"cpu_s_per_1000": 0.90, "messages_per_s": 100.0, "lost": 0.0, "generator_share": 0.8},
            {"cpu_s_per_1000": 0.04, "messages_per_s": 25000.0, "lost": 0.0, "generator_share": 0.5},
        ],
        "peer": [{"cpu_s_per_1000": 0.25, "messages_per_s": 4000.0, "lost": 0.0, "generator_share": 0.1}],
    },
    "idle": {"ours": [{"kib_per_connection": 31.0}], "peer": []},
    "start": {"ours": [], "peer": [{"seconds": 0.1}]},
}


def test_limits_are_held_against_medians_and_their_ratio_to_the_peer() -> None:
    found = {
        (verdict.limit.workload, verdict.limit.figure): (round(verdict.value, 3), verdict.passed)
        for verdict in report.verdicts(RESULTS, "ours", "peer")
    }
    assert found == {
        ("closed", "cpu_s_per_1000"): (0.16, True),
        ("closed", "messages_per_s"): (6.25, True),
        ("closed", "lost"): (0.0, True),
        ("idle", "kib_per_connection"): (31.0, False),
    }


def test_without_a_peer_only_absolute_limits_are_checked() -> None:
    figures = {verdict.limit.figure for verdict in report.verdicts(RESULTS, "ours", None)}
    assert figures == {"lost", "kib_per_connection"}


def test_the_text_marks_generator_bound_runs_and_failed_limits() -> None:
    text = report.as_text(RESULTS, "ours", "peer", dict.fromkeys(RESULTS, "a workload"))
    assert "GENERATOR-BOUND: 1 of 3 runs of ours" in text
    assert "FAIL  memory KiB / connection: 31 (at most 30)" in text
    assert "PASS  server CPU s / 1000 messages: 0.16 (at most 0.2 of the peer's)" in text


def test_the_json_form_holds_runs_medians_and_verdicts() -> None:
    document = json.loads(json.dumps(report.as_json(RESULTS, "ours", "peer")))
    assert document["medians"]["closed"]["ours"]["cpu_s_per_1000"] == 0.04
    assert document["runs"]["closed"]["ours"][1]["messages_per_s"] == 100.0
    assert {"workload", "figure", "limit", "value", "passed"} == set(document["verdicts"][0])
