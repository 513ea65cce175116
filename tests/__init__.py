"""One folder a room; `e2e` runs whole processes. Nothing here is mocked: PostgreSQL, Prometheus and jq are real."""
