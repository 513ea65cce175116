"""Where alerts and dashboards lead to."""

from dataclasses import dataclass

FLEET_UID, WORKER_UID, EXPORTER_UID = "amp-fleet", "amp-worker", "amp-exporter"


@dataclass(frozen=True)
class Links:
    """The addresses that differ from deployment to deployment. The defaults are those of compose.yaml."""

    grafana_url: str = "http://localhost:3000"

    runbook_template: str | None = None
    """The address of a runbook, with `{alert}` for the alert. None: the page that Grafana serves from docs/runbooks."""

    def dashboard(self, uid: str, **variables: str) -> str:
        """Return a dashboard's address, with values for its variables."""
        query = "&".join(f"var-{name}={value}" for name, value in variables.items())
        return f"{self.grafana_url}/d/{uid}" + (f"?{query}" if query else "")

    def runbook(self, alert: str) -> str:
        template = self.runbook_template or f"{self.grafana_url}/public/runbooks/index.html#{{alert}}"
        return template.replace("{alert}", alert)
