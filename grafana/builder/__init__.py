"""Makes `grafana/dashboards`, `grafana/rules`, `grafana/provisioning/alerting`, the tables of `docs/alerts.md` and the
page of `docs/runbooks`.

    python -m grafana.builder

The files are committed, so that they can be used without Python; a test fails where they differ from what this makes.
"""
