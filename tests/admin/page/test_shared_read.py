"""The load of the page on the metadata DB, and what the page shows during an outage."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from amp_workers.admin.page import shared_fleet
from amp_workers.admin.page.shared_fleet import REFRESH_SECONDS, SharedFleet
from amp_workers.metadata_db import STATES, Listing, MetadataDbError
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.admin.conftest import Api
from tests.admin.page.document import Element, counts, node_ids, parse, rows
from tests.admin.page.outage import Outage
from tests.conftest import Insert
from tests.processes import eventually
from tests.relay import Relay, socket_of

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]


@pytest.fixture
def outage(postgres: EmbeddedPostgres, database: str) -> Outage:
    return Outage(postgres, database)


@pytest.fixture
def relay(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    made = Relay(socket_of(postgres))
    yield made
    made.close()


def through(relay: Relay, database: str) -> str:
    """The URL of a database behind a relay."""
    name = database.rpartition("?")[0].rpartition("/")[2]
    return f"postgresql://postgres@127.0.0.1:{relay.port}/{name}"


def test_fifty_browsers_cost_one_read_in_each_interval(
    make_api: Api, database: str, insert_worker: Insert, relay: Relay
) -> None:
    insert_worker("first")
    app = make_api(through(relay, database)).application
    statuses = list[int]()

    def browse(number: int) -> None:
        path = ("/", "/?sort=node_id", "/?state=active", "/w/first")[number % 4]
        statuses.append(app.test_client().get(path).status_code)

    def browse_at_once() -> None:
        browsers = [threading.Thread(target=browse, args=(number,)) for number in range(50)]
        for browser in browsers:
            browser.start()
        for browser in browsers:
            browser.join()

    def reads() -> int:
        return sum(b"heartbeat_age_seconds" in flight for flight in relay.flights)

    began = time.monotonic()
    browse_at_once()
    assert statuses == [200] * 50
    assert 1 <= reads() <= 1 + (time.monotonic() - began) / REFRESH_SECONDS
    insert_worker("second")
    eventually(lambda: "second" in node_ids(parse(app.test_client().get("/").text)))
    browse_at_once()
    assert 2 <= reads() <= 1 + (time.monotonic() - began) / REFRESH_SECONDS


def show(api: FlaskClient, path: str = "/") -> TestResponse:
    answer = api.get(path)
    assert answer.mimetype == "text/html"
    return answer


def is_unavailable(api: FlaskClient, path: str = "/") -> Element | None:
    """The page, once it shows the outage."""
    answer = show(api, path)
    return parse(answer.text) if answer.status_code == 503 else None


def test_an_outage_shows_the_last_known_workers_with_their_time(
    api: FlaskClient, insert_worker: Insert, outage: Outage
) -> None:
    insert_worker("alive")
    insert_worker("dead", age=600)
    before = parse(show(api).text)
    insert_worker("newcomer")
    outage.begin()
    page = eventually(lambda: is_unavailable(api))
    assert "outdated" in page.one("main").attributes["class"]
    alarm = page.one("p", role="alert")
    assert re.fullmatch(
        r"The metadata DB has been unavailable for at least \d+s\. The page shows the workers as of \S+Z\.", alarm.text
    )
    as_of = before.one("div", id="reading").find("p")[0].text.removeprefix("As of ").partition(",")[0]
    assert as_of in alarm.text
    assert "not currently accepting connections" in page.one("div", id="reading").text
    assert page.one("title").text == "unavailable · Amp workers"
    # The last known state, without a growing age: a heartbeat may have been sent since.
    assert node_ids(page) == node_ids(before)
    assert not page.one("tbody").find("span")
    worker = is_unavailable(api, "/w/alive")
    assert worker is not None
    assert not worker.one("section").find("span")
    newcomer = is_unavailable(api, "/w/newcomer")
    assert newcomer is not None
    assert "The worker is unknown." in newcomer.text

    outage.end()
    recovered = eventually(lambda: parse(show(api).text) if show(api).status_code == 200 else None)
    assert not recovered.find("p", role="alert")
    assert "class" not in recovered.one("main").attributes


def test_an_outage_ends_for_a_page_that_nobody_opened_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_fleet, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(shared_fleet, "_RECENT_SECONDS", 0.2)
    is_down = True

    def read() -> Listing:
        if is_down:
            raise MetadataDbError("unreachable", "connection refused")
        time.sleep(0.6)  # longer than a request waits where something is known
        return Listing("2025-01-15T17:20:15Z", [], None, {})

    fleet = SharedFleet(read)
    first = fleet.latest().outage
    assert first is not None
    time.sleep(0.3)
    is_down = False
    assert fleet.latest().outage is None
    is_down = True
    later = fleet.latest().outage
    assert later is not None
    assert later.began > first.ended


def test_the_length_of_an_outage_grows(api: FlaskClient, outage: Outage) -> None:
    show(api)
    outage.begin()

    def seconds() -> float:
        page = is_unavailable(api)
        return 0.0 if page is None else float(page.one("p", role="alert").one("span").attributes["data-seconds"])

    first = eventually(seconds)
    eventually(lambda: seconds() > first + 1)
    outage.end()


def test_without_a_single_read_everything_is_unknown(api_without_database: FlaskClient) -> None:
    answer = show(api_without_database)
    assert answer.status_code == 503
    page = parse(answer.text)
    assert counts(page) == dict.fromkeys(STATES, "unknown")
    assert "No read has succeeded since the Admin API started" in page.text
    assert "The workers are unknown." in page.text
    assert page.one("dl", class_="jobs").text == "unfinished unknown stranded unknown"
    assert not rows(page)
    assert "hunter2" not in answer.text
    worker = show(api_without_database, "/w/w")
    assert worker.status_code == 503
    assert "The worker is unknown." in worker.text
    assert show(api_without_database, "/w/1").status_code == 400


def test_a_metadata_db_that_does_not_answer_is_an_outage(
    make_api: Api, database: str, insert_worker: Insert, relay: Relay
) -> None:
    insert_worker("w")
    api = make_api(through(relay, database))
    assert show(api).status_code == 200
    relay.open.clear()
    page = eventually(lambda: is_unavailable(api))
    assert node_ids(page) == ["w"]
    assert "outdated" in page.one("main").attributes["class"]
    relay.open.set()
    eventually(lambda: show(api).status_code == 200)


def test_a_table_that_is_missing_is_named(api: FlaskClient, sql: Sql) -> None:
    sql("DROP TABLE workers")
    page = is_unavailable(api)
    assert page is not None
    assert "ampd migrate" in page.text
