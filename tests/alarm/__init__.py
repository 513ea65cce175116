"""A whole deployment with alerting: workers, exporter, Prometheus, Alertmanager, and a webhook that receives
notifications.
"""
