"""The page of one worker, `/w/{node_id}`, as the server renders it."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from grafana.builder.links import FLEET_UID, WORKER_UID, Links
from tests.admin.conftest import Api
from tests.admin.page.document import Element, links, parse
from tests.conftest import Insert
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler
from tests.node_ids import INVALID

Sql = Callable[..., list[Any]]


def get(api: FlaskClient, node_id: str) -> Element:
    answer = api.get(f"/w/{quote(node_id, safe='')}")
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


def facts(page: Element) -> dict[str, str]:
    return {each.one("dt").text: each.one("dd").text for each in page.one("dl", class_="whole").find("div")}


def commands(page: Element) -> list[str]:
    return [code.text for code in page.find("code")]


def test_it_shows_everything_of_a_worker(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker(
        "w",
        age=7200,
        info='{"version": "v1", "commit_sha": "c0ffee", "commit_timestamp": "2025-01-15T14:30:00Z", "build_date": '
        '"2025-01-15T15:45:30Z", "stopped_at": "2999-01-01T00:00:00Z", "exit_code": 7, "failure": "exit code 7", '
        '"progress": "block 7", "progress_at": "2024-01-01T00:00:00Z"}',
    )
    page = get(api, "w")
    assert page.one("h2", id="worker").text == "w"
    assert re.fullmatch(r"failed, last seen 2h(\d+m)? ago: exit code 7", page.one("p", class_="now").text)
    assert facts(page) == {
        "Version": "v1",
        "Commit": "c0ffee",
        "Commit timestamp": "2025-01-15T14:30:00Z",
        "Build date": "2025-01-15T15:45:30Z",
        "Uptime": "-",
        "Exit code": "7",
        "Failure": "exit code 7",
        "Progress": "block 7",
        "Unfinished jobs": "unknown",
    }
    assert commands(page) == ["ampctl worker inspect w", "ampctl worker list w --watch", "ampctl worker forget w"]
    assert page.one("title").text == "w · failed · Amp workers"


def test_its_history_is_in_order(api: FlaskClient, insert_worker: Insert, sql: Sql) -> None:
    insert_worker("w", info='{"stopped_at": "2999-01-01T00:00:00Z", "progress_at": "1999-01-01T00:00:00Z"}')
    sql("UPDATE workers SET created_at = '2001-01-01Z', registered_at = '2002-01-01Z'")
    history = get(api, "w").one("ol", class_="history")
    assert [item.one("b").text for item in history.find("li")] == [
        *("last progress", "created", "registered", "last heartbeat", "stopped")
    ]
    times = [item.one("time").text for item in history.find("li")]
    assert times == sorted(times)
    assert times[1] == "2001-01-01T00:00:00Z"
    assert history.find("li")[-1].text.endswith("in the future")


def test_a_worker_that_runs_has_no_command_that_forgets_it(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("w")
    page = get(api, "w")
    assert commands(page) == ["ampctl worker inspect w", "ampctl worker list w --watch"]
    assert facts(page)["Uptime"].startswith("1d")


@pytest.mark.parametrize("node_id", ["a/b", "x/jobs", "/", "a?b#c%2F", "<script>alert(1)</script>", "\n", "🚀 \u202e"])
def test_a_row_with_an_invalid_node_id_has_a_page_and_no_commands(
    api: FlaskClient, insert_worker: Insert, node_id: str
) -> None:
    insert_worker(node_id)
    page = get(api, node_id)
    assert page.one("h2", id="worker").text == " ".join(node_id.split())
    assert not commands(page)
    assert len(page.find("script")) == 1


def test_the_links_lead_to_the_fleet_from_any_depth(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("a/b")
    for path, root in (("/w/a%2Fb", "../"), ("/w/a/b", "../../")):
        found = links(parse(api.get(path).text))
        assert root in found
        assert f"{root}docs" in found


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_node_id_is_an_error(api: FlaskClient, node_id: str) -> None:
    answer = api.get(f"/w/{quote(node_id, safe='')}")
    assert (answer.status_code, answer.mimetype) == (400, "text/html")
    assert parse(answer.text).one("p", id="message").text


def test_an_unknown_node_id_is_not_found(api: FlaskClient) -> None:
    answer = api.get("/w/nobody")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "<noscript><meta http-equiv" in answer.text  # it may register later
    page = parse(answer.text)
    assert page.one("p", id="message").text == "no worker has the node id 'nobody'"
    assert "../" in links(page)


def test_a_parameter_is_refused(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("w")
    assert api.get("/w/w?page=2").status_code == 400


def test_it_lists_the_jobs(make_api: Api, empty_database: str) -> None:
    amp.migrate(empty_database, amp.TODAYS)
    with Scheduler(empty_database) as scheduler:
        amp.register(empty_database, amp.TODAYS, "busy")
        amp.register(empty_database, amp.TODAYS, "idle")
        first = scheduler.schedule("busy")
        second = scheduler.schedule("busy", None)
        scheduler.update(second, "RUNNING")
        scheduler.schedule("missing", "edge/<script>")
        api = make_api(empty_database)
        jobs = [[cell.text for cell in row.find("td")] for row in get(api, "busy").one("tbody").find("tr")]
        assert [[number, status, dataset] for number, status, _, dataset in jobs] == [
            [str(first), "SCHEDULED", "edge/blocks"],
            [str(second), "RUNNING", "-"],
        ]
        assert "ampctl worker jobs busy" in commands(get(api, "busy"))
        assert not get(api, "idle").find("tbody")

        page = get(api, "missing")
        assert page.one("p", class_="now").text == "not registered"
        assert page.one("title").text == "missing · not registered · Amp workers"
        assert "edge/<script>" in page.one("tbody").text
        assert commands(page) == ["ampctl worker jobs missing"]
        assert api.get("/w/nobody").status_code == 404


def test_jobs_whose_details_cannot_be_read_are_unknown(make_api: Api, empty_database: str) -> None:
    amp.migrate(empty_database, amp.TODAYS)
    with amp.connect(empty_database) as connection, Scheduler(empty_database) as scheduler:
        amp.register(empty_database, amp.TODAYS, "busy")
        scheduler.schedule("busy")
        connection.execute("ALTER TABLE job_events RENAME TO renamed")
        page = get(make_api(empty_database), "busy")
        assert facts(page)["Unfinished jobs"] == "1"
        assert "Unknown: " in page.text


def test_it_links_to_the_dashboard_of_the_worker(make_api: Api, database: str, insert_worker: Insert) -> None:
    insert_worker("w")
    insert_worker("a&b")
    api = make_api(database, grafana_url="https://grafana.example.org")
    grafana = Links("https://grafana.example.org")
    assert grafana.dashboard(WORKER_UID, node_id="w") in links(get(api, "w"))
    assert grafana.dashboard(FLEET_UID) in links(parse(api.get("/").text))
    (link,) = (each.attributes["href"] for each in get(api, "a&b").find("a") if each.text == "Grafana")
    assert link.endswith("?var-node_id=a%26b")
