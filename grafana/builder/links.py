"""Where alerts and dashboards point to. Rewrite the two addresses in the files with `sed`: see docs/alerts.md."""

GRAFANA_URL = "http://localhost:3000"
"""What Grafana has in compose.yaml."""

RUNBOOKS_URL = f"{GRAFANA_URL}/public/runbooks"
"""Grafana serves what is mounted into its public directory, as compose.yaml does with docs/runbooks."""

FLEET_UID, WORKER_UID, EXPORTER_UID = "amp-fleet", "amp-worker", "amp-exporter"


def dashboard_path(uid: str, **variables: str) -> str:
    """Return a dashboard's path in Grafana, with values for its variables."""
    query = "&".join(f"var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}" + (f"?{query}" if query else "")


def runbook_url(alert: str) -> str:
    return f"{RUNBOOKS_URL}/{alert}.md"
