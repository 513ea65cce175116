"""The peer that prometheus-client's documentation leads to: a collector that makes a family object of each column."""

import sys
from collections.abc import Iterator

import psycopg
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SELECT = """
SELECT node_id, extract(epoch FROM now() - heartbeat_at)::float8, extract(epoch FROM heartbeat_at)::float8,
       extract(epoch FROM registered_at)::float8, extract(epoch FROM created_at)::float8,
       info->>'version', info->>'commit_sha', info->>'commit_timestamp', info->>'build_date'
FROM workers
"""
GAUGES = ("heartbeat_age", "heartbeat_timestamp", "registered_timestamp", "created_timestamp")
INFO = ["node_id", "version", "commit_sha", "commit_timestamp", "build_date"]


class PlainCollector(Collector):
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def collect(self) -> Iterator[Metric]:
        families = [GaugeMetricFamily(f"amp_worker_{name}_seconds", name, labels=["node_id"]) for name in GAUGES]
        info = GaugeMetricFamily("amp_worker_info", "info", labels=INFO)
        for row in self._connection.execute(SELECT):
            for family, value in zip(families, row[1:5], strict=True):
                family.add_metric([row[0]], value)
            info.add_metric([row[0], *row[5:]], 1)
        yield from families
        yield info


if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(PlainCollector(sys.argv[1]))
    _, thread = start_http_server(int(sys.argv[2]), "127.0.0.1", registry)
    thread.join()
