"""The state that the exporter keeps from scrape to scrape."""

from amp_workers.exporter.worker_families import WorkerFamilies
from amp_workers.metadata_db import Details, Fleet, Group, Members, State


def test_no_state_is_kept_of_removed_workers() -> None:
    """Otherwise a fleet with new node ids each day would fill the memory."""
    families = WorkerFamilies()
    for number in range(3):
        group = Group(number, State.ACTIVE, 1, "fingerprint", [0.5], [1764000000.0], [], 0)
        build = ("v1", "unknown", "unknown", "unknown")
        moment = "1764000000.0"
        members = Members([f"worker-{number}"], moment, moment, "", "", "", [None], [build])
        families.keep(group, Details({"v1": 1}, [number], members))
        families.write(Fleet([group], None))
        assert [families.fingerprint((each, State.ACTIVE)) for each in range(3)].count("fingerprint") == 1
        assert families.fingerprint(group.key) == "fingerprint"
    families.write(Fleet([], None))
    assert families.fingerprint(group.key) is None
