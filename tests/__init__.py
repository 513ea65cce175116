"""Each folder holds the tests of one room; `e2e` runs whole processes. Nothing is mocked: PostgreSQL, Prometheus and jq
are real.
"""
