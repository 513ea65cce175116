"""A whole deployment with its alarm: workers, exporter, Prometheus, Alertmanager, and somebody who listens."""
