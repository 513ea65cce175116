"""Deletions respect their time limits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from amp_workers.metadata_db import DEFAULT_THRESHOLDS, Forgetter, MetadataDbError, MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.conftest import Insert
from tests.processes import eventually
from tests.relay import Relay, socket_of

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'a test'"


@pytest.fixture
def relay(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    made = Relay(socket_of(postgres))
    yield made
    made.close()


@pytest.mark.slow
def test_a_session_with_a_silent_server_is_abandoned(database: str, insert_worker: Insert, relay: Relay) -> None:
    insert_worker("w", 300)
    relay.freezes_at = b"DELETE FROM workers"
    name = database.rpartition("?")[0].rpartition("/")[2]
    url = MetadataDbUrl.parse(f"postgresql://postgres@127.0.0.1:{relay.port}/{name}")
    # A request that waits for ever fails the test, instead of blocking it.
    patience = threading.Timer(30, relay.reset)
    patience.start()
    with pytest.raises(MetadataDbError, match=r"did not answer within 1\.0 s"):
        Forgetter(url, "a test", statement_timeout=60).forget("w", DEFAULT_THRESHOLDS, 1)
    patience.cancel()


def test_a_request_whose_turn_does_not_come_is_refused(
    database: str, insert_worker: Insert, sql: Callable[..., list[Any]]
) -> None:
    insert_worker("w", 300)
    forgetter = Forgetter(MetadataDbUrl.parse(database), "a test", statement_timeout=60)

    def forget(seconds: float) -> None:
        forgetter.forget("w", DEFAULT_THRESHOLDS, seconds)

    def forget_first() -> None:
        with suppress(MetadataDbError):
            forget(30)

    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE workers IN EXCLUSIVE MODE")
        first = threading.Thread(target=forget_first)
        first.start()
        eventually(lambda: sql(WAITING) == [(1,)])
        with pytest.raises(MetadataDbError, match="other deletions are under way"):
            forget(0.2)
    first.join()
    assert sql("SELECT count(*) FROM workers") == [(0,)]
