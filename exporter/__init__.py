"""The Prometheus exporter: a fleet's workers as metrics, read from the metadata DB at each scrape."""

from amp_workers.exporter.app import MEMBER_STATES, create_app

__all__ = ["MEMBER_STATES", "create_app"]
