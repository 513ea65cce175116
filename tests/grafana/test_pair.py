"""Two exporters are scraped at different moments. A panel shows the numbers of only one of them."""

import json
from pathlib import Path

import pytest
import yaml

from tests.processes import ROOT, run, tool

PANELS = {
    panel["title"]: panel["targets"][0]["expr"].replace("$job", "amp")
    for panel in json.loads((ROOT / "grafana" / "dashboards" / "fleet.json").read_text())["panels"]
    if "targets" in panel
}

SERIES = {
    # The second exporter was scraped after two of ten workers died. The first cannot reach the metadata DB at 60 s.
    'amp_metadata_db_up{{job="amp",instance="{}"}}': ("1 0", "1 1"),
    'process_start_time_seconds{{job="amp",instance="{}"}}': ("100 100", "200 200"),
    'amp_workers{{job="amp",instance="{}",state="active"}}': ("10 stale", "8 8"),
    'amp_workers{{job="amp",instance="{}",state="lost"}}': ("0 stale", "2 2"),
    'amp_workers_by_version{{job="amp",instance="{}",version="v1"}}': ("10 stale", "8 8"),
    'amp_fleet_heartbeat_age_seconds_gcount{{job="amp",instance="{}"}}': ("10 stale", "10 10"),
    'amp_fleet_heartbeat_age_seconds_bucket{{job="amp",instance="{}",le="10.0"}}': ("10 stale", "8 8"),
}

WANTED = {
    "All workers": {"{}": (10, 10)},
    "Active": {"{}": (10, 8)},
    "Lost": {"{}": (0, 2)},
    "Workers by state": {'{state="active"}': (10, 8), '{state="lost"}': (0, 2)},
    "Workers by version": {'{version="v1"}': (10, 8)},
    "Heartbeat ages": {'{le="10.0"}': (10, 8)},
    "Workers with an old heartbeat": {"{}": (0, 2)},
}
"""The values at 0 s, of the exporter with the longest uptime, and at 60 s, of the other one."""


@pytest.mark.parametrize("title", WANTED)
def test_a_panel_shows_the_numbers_of_one_exporter(title: str, tmp_path: Path) -> None:
    inputs = [
        {"series": series.format(instance), "values": values}
        for series, both in SERIES.items()
        for instance, values in zip("ab", both, strict=True)
    ]
    expectations = [
        {
            "expr": PANELS[title],
            "eval_time": time,
            "exp_samples": [{"labels": labels, "value": values[n]} for labels, values in WANTED[title].items()],
        }
        for n, time in enumerate(("0s", "60s"))
    ]
    file = tmp_path / "pair.yml"
    test = {"interval": "60s", "input_series": inputs, "promql_expr_test": expectations}
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}, width=10_000))
    tested = run(tool("promtool"), "test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def _scrapes(series: str, offset: int, values: str) -> dict[str, str]:
    """Return a series of a scrape every 15 s, at whose values of 1 s the rules look."""
    return {"series": series, "values": f"_x{offset} " + " ".join(f"{each} _x14" for each in values.split())}


def test_a_failure_that_each_exporter_has_seen_once_is_not_confirmed(tmp_path: Path) -> None:
    """A worker that is restarted at once is in one scrape of each, 3 s apart."""
    inputs = []
    for instance, offset in (("a", 0), ("b", 3)):
        labels = f'job="amp",instance="{instance}"'
        inputs += [_scrapes(f"{name}{{{labels}}}", offset, "1 1 1 1 1 1 1 1") for name in ("up", "amp_metadata_db_up")]
        failed = f'amp_worker_failed{{{labels},node_id="w",reason="exit code 1"}}'
        inputs.append(_scrapes(failed, offset + 60, "1 stale"))
    nothing = [
        {"expr": 'ALERTS{alertname="AmpWorkerFailed", alertstate="firing"}', "eval_time": f"{time}s", "exp_samples": []}
        for time in range(60, 120, 5)
    ]
    test = {"interval": "1s", "input_series": inputs, "promql_expr_test": nothing}
    rules = {"rule_files": [str(ROOT / "grafana/rules/amp.yml")], "evaluation_interval": "2500ms", "tests": [test]}
    file = tmp_path / "failed.yml"
    file.write_text(yaml.safe_dump(rules, width=10_000))
    tested = run(tool("promtool"), "test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr
