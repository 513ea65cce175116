"""Each command and recipe of the user documentation, as printed, with its output for the fleet below.

In an expected output, `<time>` stands for a timestamp and `<age>` for a number of seconds. The rest is literal.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One command of the documentation."""

    heading: str
    command: str
    prints: str


BUILD = {
    "version": "v0.0.22-15-g8b065bde",
    "commit_sha": "8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f",
    "commit_timestamp": "2025-01-15T14:30:00Z",
    "build_date": "2025-01-15T15:45:30Z",
}

LIVE = "worker-01"
"""A worker that is running, built as BUILD says."""

ROWS = [
    # node id, created, registered, last heartbeat, info
    ("eu-west-1a-worker", "2025-01-02T12:00:00Z", "2025-01-15T16:00:00Z", "2025-01-15T17:20:10Z", {}),
    ("indexer-node-1", "2025-01-03T12:00:00Z", "2025-01-15T16:00:00Z", "2025-01-15T17:18:45Z", {"version": "v0.0.21"}),
    ("problematic-worker", "2025-01-04T12:00:00Z", "2025-01-15T16:00:00Z", "2025-01-15T17:00:00Z", {"version": None}),
    (
        "worker-01h2xcejqtf2nbrexx3vqjhp41",
        "2025-01-01T12:00:00Z",
        "2025-01-15T16:45:30Z",
        "2025-01-15T17:20:15Z",
        BUILD,
    ),
]
"""Workers that have been silent for long, as rows."""

LIST = """\
eu-west-1a-worker (last heartbeat: 2025-01-15T17:20:10Z)
indexer-node-1 (last heartbeat: 2025-01-15T17:18:45Z)
problematic-worker (last heartbeat: 2025-01-15T17:00:00Z)
worker-01 (last heartbeat: <time>)
worker-01h2xcejqtf2nbrexx3vqjhp41 (last heartbeat: 2025-01-15T17:20:15Z)
"""

INSPECT_LIVE = """\
Node ID: worker-01
Created: <time>
Registered: <time>
Heartbeat: <time>

Worker Info:
  Version: v0.0.22-15-g8b065bde
  Commit: 8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f
  Commit Timestamp: 2025-01-15T14:30:00Z
  Build Date: 2025-01-15T15:45:30Z
"""


def as_json(
    node_id: str,
    state: str = "forgotten",
    created: str = "<time>",
    registered: str = "2025-01-15T16:00:00Z",
    heartbeat: str = "<time>",
    version: str = "unknown",
    others: tuple[str, str, str] = ("unknown", "unknown", "unknown"),
) -> str:
    return f"""\
{{
  "node_id": "{node_id}",
  "state": "{state}",
  "heartbeat_age_seconds": <age>,
  "created_at": "{created}",
  "registered_at": "{registered}",
  "heartbeat_at": "{heartbeat}",
  "info": {{
    "version": "{version}",
    "commit_sha": "{others[0]}",
    "commit_timestamp": "{others[1]}",
    "build_date": "{others[2]}"
  }},
  "stopped_at": null,
  "exit_code": null,
  "failure": null,
  "progress": null,
  "progress_at": null,
  "jobs": null
}}
"""


_COMMIT = (BUILD["commit_sha"], BUILD["commit_timestamp"], BUILD["build_date"])

JSON_LIVE = as_json(LIVE, "active", registered="<time>", version=BUILD["version"], others=_COMMIT)

JSON_SILENT = [
    as_json("eu-west-1a-worker", created="2025-01-02T12:00:00Z", heartbeat="2025-01-15T17:20:10Z"),
    as_json("indexer-node-1", created="2025-01-03T12:00:00Z", heartbeat="2025-01-15T17:18:45Z", version="v0.0.21"),
    as_json("problematic-worker", created="2025-01-04T12:00:00Z", heartbeat="2025-01-15T17:00:00Z"),
    as_json(
        "worker-01h2xcejqtf2nbrexx3vqjhp41",
        created="2025-01-01T12:00:00Z",
        registered="2025-01-15T16:45:30Z",
        heartbeat="2025-01-15T17:20:15Z",
        version=BUILD["version"],
        others=_COMMIT,
    ),
]


def as_list(workers: list[str]) -> str:
    indented = ["    " + worker.rstrip("\n").replace("\n", "\n    ") for worker in workers]
    return '{\n  "workers": [\n' + ",\n".join(indented) + "\n  ]\n}\n"


JSON_ALL = as_list([*JSON_SILENT[:3], JSON_LIVE, JSON_SILENT[3]])

IDS_AND_TIMES = """\
eu-west-1a-worker: 2025-01-15T17:20:10Z
indexer-node-1: 2025-01-15T17:18:45Z
problematic-worker: 2025-01-15T17:00:00Z
worker-01: <time>
worker-01h2xcejqtf2nbrexx3vqjhp41: 2025-01-15T17:20:15Z
"""

VERSIONS = """\
eu-west-1a-worker: unknown
indexer-node-1: v0.0.21
problematic-worker: unknown
worker-01: v0.0.22-15-g8b065bde
worker-01h2xcejqtf2nbrexx3vqjhp41: v0.0.22-15-g8b065bde
"""

RECIPES = [
    Recipe("ampctl worker list: basic listing", "ampctl worker list", LIST),
    Recipe("ampctl worker list: alias", "ampctl worker ls  # alias", LIST),
    Recipe("ampctl worker list: JSON output", "ampctl worker list --json", JSON_ALL),
    Recipe("ampctl worker inspect", "ampctl worker inspect worker-01", INSPECT_LIVE),
    Recipe("ampctl worker inspect: alias", "ampctl worker get worker-01  # alias", INSPECT_LIVE),
    Recipe("ampctl worker inspect: JSON output", "ampctl worker inspect worker-01 --json", JSON_LIVE),
    Recipe(
        "ampctl worker inspect: extract specific fields with jq",
        "ampctl worker inspect worker-01 --json | jq -r '.info.version'",
        "v0.0.22-15-g8b065bde\n",
    ),
    Recipe(
        "ampctl worker inspect: output",
        "ampctl worker inspect worker-01h2xcejqtf2nbrexx3vqjhp41",
        """\
Node ID: worker-01h2xcejqtf2nbrexx3vqjhp41
Created: 2025-01-01T12:00:00Z
Registered: 2025-01-15T16:45:30Z
Heartbeat: 2025-01-15T17:20:15Z

Worker Info:
  Version: v0.0.22-15-g8b065bde
  Commit: 8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f
  Commit Timestamp: 2025-01-15T14:30:00Z
  Build Date: 2025-01-15T15:45:30Z
""",
    ),
    Recipe(
        "Check worker liveness: inspect a specific worker's heartbeat",
        "ampctl worker inspect worker-01 --json | jq -r '.heartbeat_at'",
        "<time>\n",
    ),
    Recipe(
        "Monitor worker fleet: extract worker IDs and heartbeat times",
        r"""ampctl worker list --json | jq -r '.workers[] | "\(.node_id): \(.heartbeat_at)"'""",
        IDS_AND_TIMES,
    ),
    Recipe(
        "Monitor worker fleet: find workers with stale heartbeats (older than 5 seconds)",
        """\
ampctl worker list --json | jq '.workers[] | select(
  (now - (.heartbeat_at | fromdateiso8601)) > 5
)'""",
        "".join(JSON_SILENT),
    ),
    Recipe(
        "Check worker versions: list all workers with version information",
        """\
for worker in $(ampctl worker list --json | jq -r '.workers[].node_id'); do
  echo "$worker: $(ampctl worker inspect $worker --json | jq -r '.info.version')"
done""",
        VERSIONS,
    ),
    Recipe(
        "Debug worker issues: check when worker was last seen",
        "ampctl worker inspect problematic-worker",
        """\
Node ID: problematic-worker
Created: 2025-01-04T12:00:00Z
Registered: 2025-01-15T16:00:00Z
Heartbeat: 2025-01-15T17:00:00Z

Worker Info:
  Version: unknown
  Commit: unknown
  Commit Timestamp: unknown
  Build Date: unknown
""",
    ),
    Recipe(
        "Debug worker issues: compare worker versions across fleet",
        r"""ampctl worker list --json | jq -r '.workers[] | 
  "\(.node_id): \(if .info then .info.version else "unknown" end)"'""",  # noqa: W291 - as printed
        VERSIONS,
    ),
    Recipe(
        "Debug worker issues: identify workers that haven't sent heartbeats recently",
        """\
ampctl worker list --json | jq '.workers[] | 
  select((now - (.heartbeat_at | fromdateiso8601)) > 10)'""",  # noqa: W291 - as printed
        "".join(JSON_SILENT),
    ),
    Recipe("Capacity planning: count active workers", "ampctl worker list --json | jq '.workers | length'", "5\n"),
    Recipe(
        "Capacity planning: list workers by creation date",
        r"""ampctl worker list --json | jq -r '.workers[] | 
  "\(.created_at) - \(.node_id)"' | sort""",  # noqa: W291 - as printed
        """\
2025-01-01T12:00:00Z - worker-01h2xcejqtf2nbrexx3vqjhp41
2025-01-02T12:00:00Z - eu-west-1a-worker
2025-01-03T12:00:00Z - indexer-node-1
2025-01-04T12:00:00Z - problematic-worker
<time> - worker-01
""",
    ),
    Recipe(
        "Direct API access: list all workers",
        "curl http://localhost:1610/workers",
        JSON_ALL,
    ),
    Recipe("Direct API access: get worker details", "curl http://localhost:1610/workers/worker-01", JSON_LIVE),
    Recipe("Direct API access: format with jq", "curl http://localhost:1610/workers | jq", JSON_ALL),
]
