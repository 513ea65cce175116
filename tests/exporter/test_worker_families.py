"""What the exporter keeps from scrape to scrape."""

from amp_workers.exporter.worker_families import WorkerFamilies
from amp_workers.metadata_db import Details, Fleet, Group, Member, State


def test_nothing_is_kept_of_workers_that_are_gone() -> None:
    """A fleet whose node ids are new each day would fill the memory otherwise."""
    families = WorkerFamilies()
    for number in range(3):
        group = Group(number, State.ACTIVE, 1, 0.5, 0.5, (), "fingerprint", "0.5", "1764000000.0", None, 0)
        info = ("v1", "unknown", "unknown", "unknown")
        member = Member(f"worker-{number}", "1764000000.0", "1764000000.0", None, None, None, None, info)
        families.learn(group, Details({"v1": 1}, [member]))
        families.write(Fleet([group], None))
        assert families.known() == {group.key: "fingerprint"}
    families.write(Fleet([], None))
    assert families.known() == {}
