"""A real Prometheus, and queries to it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.processes import Process, Processes, eventually, free_port, get, tool

Vector = dict[frozenset[tuple[str, str]], float]
"""The values of an instant query, by their labels without `__name__`, `job` and `instance`."""


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


class Prometheus:
    """Scrapes jobs with one target each, and evaluates rules, every `interval` seconds."""

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        jobs: Mapping[str, int],
        *,
        rules: Sequence[Path] = (),
        alertmanager: int | None = None,
        interval: int = 1,
    ) -> None:
        self.port = free_port()
        self._processes = processes
        self._directory = directory
        directory.mkdir(exist_ok=True)
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{max(1, interval - 1)}s"}
            | {"evaluation_interval": f"{interval}s"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
            ],
        }
        if alertmanager is not None:
            targets = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            configuration["alerting"] = {"alertmanagers": targets}
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self.start()

    def start(self) -> None:
        self.process: Process = self._processes.start(
            tool("prometheus"),
            f"--config.file={self._directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        )
        eventually(lambda: get(f"http://127.0.0.1:{self.port}/-/ready"), 60)

    def query(self, expression: str, at: float | None = None) -> Vector:
        """Return the values at the current time, or at a Unix time. The labels of the target are omitted."""
        data = self._ask("query", query=expression, **({} if at is None else {"time": at}))
        if data["resultType"] == "scalar":
            return {frozenset(): float(data["result"][1])}
        return {
            frozenset((name, value) for name, value in series["metric"].items() if name not in _TARGET): float(
                series["value"][1]
            )
            for series in data["result"]
        }

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Any]:
        result: list[Any] = self._ask("query_range", query=expression, start=start, end=end, step=step)["result"]
        return result

    def alerts(self) -> list[Any]:
        """Return the pending and firing alerts. `ALERTS` also has those from before a restart, for 5 minutes."""
        alerts: list[Any] = self._ask("alerts")["alerts"]
        return alerts

    def _ask(self, path: str, **parameters: object) -> dict[str, Any]:
        answer = json.loads(get(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"))
        assert answer["status"] == "success"
        data: dict[str, Any] = answer["data"]
        return data


_TARGET = {"__name__", "job", "instance"}
