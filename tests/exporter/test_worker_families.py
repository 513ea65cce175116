"""What the exporter keeps from scrape to scrape."""

from amp_workers.exporter.worker_families import WorkerFamilies
from amp_workers.metadata_db import Details, Group, Member, State


def test_nothing_is_kept_of_workers_that_are_gone() -> None:
    """A fleet whose node ids are new each day would fill the memory otherwise."""
    families = WorkerFamilies()
    for number in range(3):
        group = Group(number, State.ACTIVE, 1, 0.5, 0.5, (), "fingerprint", "0.5", "1764000000.0")
        member = Member(
            f"worker-{number}", "1764000000.0", "1764000000.0", None, ("v1", "unknown", "unknown", "unknown")
        )
        families.learn(group, Details({"v1": 1}, [member]))
        families.write([group])
        assert families.known() == {group.key: "fingerprint"}
    families.write([])
    assert families.known() == {}
