"""Valid and invalid node ids, for each entry point: worker, API path, ampctl."""

VALID = ["worker-01", "indexer-node-1", "eu_west_1a_worker", "worker.production.01", "w", "W" * 255]

INVALID = {
    "empty": "",
    "leading digit": "1-worker",
    "leading dot": ".worker",
    "at sign": "worker@01",
    "number sign": "worker#01",
    "trailing newline": "worker-01\n",
    "non-ASCII letter": "wörker",
    "non-ASCII digit": "worker-٣",
    "256 characters": "w" * 256,
    "dots": "..",
    "slash": "worker/01",
    "space": "worker 01",
    "quote": "worker'01",
}
