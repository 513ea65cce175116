"""Makes `grafana/dashboards`, `grafana/rules`, `grafana/provisioning/alerting` and the table of `docs/alerts.md`.

    python -m grafana.builder

The files are committed, so that nobody needs Python to use them; a test fails when they are not what this makes.
"""
