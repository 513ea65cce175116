"""The dashboards, one file each. `panels.py` has what their panels share."""

from grafana.builder.dashboards.exporter import exporter_dashboard
from grafana.builder.dashboards.fleet import fleet_dashboard
from grafana.builder.dashboards.worker import worker_dashboard

__all__ = ["exporter_dashboard", "fleet_dashboard", "worker_dashboard"]
