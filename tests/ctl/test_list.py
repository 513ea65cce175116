"""`ampctl worker list` and `inspect` beyond the documented recipes: filters, orders, formats."""

import csv
import io
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from amp_workers.ctl import client
from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.connection import Connection
from amp_workers.ctl.fields import uptime_seconds
from amp_workers.ctl.sort_keys import ORDERS
from amp_workers.ctl.table import table
from tests.ctl.conftest import FLEET, StartTerminal
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.processes import run, run_ampctl

WIDE = """\
STATE      NODE ID     LAST SEEN  VERSION  UPTIME  JOBS  STATUS
stale      beta        6d         v1.10.0  9d2h    -     -
forgotten  delta       60d        unknown  -       -     -
active     epsilon-10  1d2h       v1.9.0   4d4h    -     -
active     epsilon-9   1d1h       v1.10.0  4d3h    -     -
lost       gamma       12d        v1.9.0   -       -     -
stopped    zeta        1d6h       v1.9.0   -       -     -
"""


def listed(url: str, *arguments: str) -> list[str]:
    """Return the printed node ids."""
    done = run_ampctl("--admin-url", url, "worker", "list", *arguments)
    assert done.returncode == 0, done.stderr
    return [line.split(" ")[0] for line in done.stdout.splitlines()]


def test_the_table_has_its_columns_aligned_and_no_colour_in_a_pipe(api_url: str) -> None:
    assert run_ampctl("--admin-url", api_url, "worker", "list", "--wide").stdout == WIDE


def test_states_can_be_given_several_times_and_several_at_once(api_url: str) -> None:
    assert listed(api_url, "--state", "lost,stale", "--state", "stopped") == ["beta", "gamma", "zeta"]


def test_filters_by_state_and_version_are_combined(api_url: str) -> None:
    assert listed(api_url, "--state", "active,lost", "--version", "v1.9.0") == ["epsilon-10", "gamma"]
    assert listed(api_url, "--version", "v9") == []


def test_only_the_printed_workers_are_requested(contract_api: ContractApi) -> None:
    listed(contract_api.url, "--state", "active,lost", "--version", "a&b=c", "--limit", "2")
    assert contract_api.asked == ["GET /workers?state=active,lost&version=a%26b%3Dc&limit=2"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("state", ["gamma", "beta", "epsilon-10", "epsilon-9", "zeta", "delta"]),
        ("last-seen", ["delta", "gamma", "beta", "zeta", "epsilon-10", "epsilon-9"]),
        ("version", ["epsilon-10", "gamma", "zeta", "beta", "epsilon-9", "delta"]),
        ("uptime", ["epsilon-9", "epsilon-10", "beta", "delta", "gamma", "zeta"]),
        ("created", ["delta", "gamma", "beta", "zeta", "epsilon-10", "epsilon-9"]),
        ("node-id", [each[0] for each in FLEET]),
    ],
)
def test_each_order(admin_url: str, order: str, expected: list[str]) -> None:
    assert listed(admin_url, "--sort", order) == expected


def test_unknown_values_come_last_in_every_order() -> None:
    odd = a_worker("a", state="odd", age=5, version="unknown", created_at="unknown", registered_at="unknown")
    known = a_worker("b", age=5)
    for compared in (ORDERS[name] for name in ("version", "uptime", "created")):
        assert sorted([odd, known], key=compared) == [known, odd]


def test_a_state_that_is_not_known_comes_before_the_healthy_ones() -> None:
    workers = [
        a_worker(state, state)
        for state in ("forgotten", "stopped", "active", "odd", "stuck", "stale", "lost", "failed")
    ]
    assert [each["state"] for each in sorted(workers, key=ORDERS["state"])] == [
        *("failed", "lost", "stale", "stuck", "odd", "active", "stopped", "forgotten")
    ]


def test_a_version_of_any_length_is_sorted() -> None:
    long, short = a_worker("a", version="9" * 5_000), a_worker("b", version="10")
    assert sorted([long, short], key=ORDERS["version"])


def test_a_limit_is_kept_and_reported(api_url: str) -> None:
    done = run_ampctl("--admin-url", api_url, "worker", "list", "--wide", "--limit", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["STATE", "stale", "forgotten"]
    assert done.stderr == "There are more workers: --limit is 2.\n"
    by_age = run_ampctl("--admin-url", api_url, "worker", "list", "--sort", "last-seen", "--limit", "1")
    assert by_age.stdout.startswith("delta ")
    assert by_age.stderr == "There are more workers: --limit is 1.\n"
    all_of_them = run_ampctl("--admin-url", api_url, "worker", "list", "--limit", "6")
    assert (all_of_them.stdout.count("\n"), all_of_them.stderr) == (6, "")


def test_healthy_workers_after_the_last_problem_are_not_more_of_them(contract_api: ContractApi) -> None:
    done = run_ampctl(
        *("--admin-url", contract_api.url, "worker", "list", "--problems", "--sort", "state", "--limit", "2")
    )
    assert (done.stdout.count("\n"), done.stderr) == (2, "")
    fewer = run_ampctl(
        *("--admin-url", contract_api.url, "worker", "list", "--problems", "--sort", "state", "--limit", "1")
    )
    assert (fewer.stdout.count("\n"), fewer.stderr) == (1, "There are more workers: --limit is 1.\n")


def test_csv_without_headings_of_no_workers_is_empty(contract_api: ContractApi) -> None:
    contract_api.workers = []
    arguments = ("--admin-url", contract_api.url, "worker", "list", "-o", "csv")
    assert run_ampctl(*arguments, "--no-headers").stdout == ""
    assert run_ampctl(*arguments).stdout.startswith("node_id,")


def test_a_limit_larger_than_a_page_reads_several_pages() -> None:
    with serving(ContractApi([a_worker(f"w{number:05}") for number in range(10_003)])) as api:
        assert len(listed(api.url, "--limit", "10002")) == 10_002
        assert api.asked == ["GET /workers?limit=10000", "GET /workers?limit=2&after=w09999"]


@pytest.mark.parametrize(
    ("arguments", "asked", "printed"),
    [
        ("--sort state --limit 2", "limit=2&sort=state", ["gamma", "beta"]),
        ("--sort last-seen --limit 2", "limit=3&sort=heartbeat", ["delta", "gamma"]),
        ("--problems --sort state --limit 1", "limit=2&sort=state", ["gamma"]),
        ("--problems --limit 1", "sort=state", ["beta"]),
        ("--sort state --reverse --limit 1", "", ["delta"]),
        ("--sort version --limit 1", "", ["epsilon-10"]),
    ],
)
def test_the_api_sorts_where_it_has_the_order(
    contract_api: ContractApi, arguments: str, asked: str, printed: list[str]
) -> None:
    assert listed(contract_api.url, *arguments.split()) == printed
    assert {*parse_qsl(urlsplit(contract_api.asked[0]).query)} == {*parse_qsl(asked)}
    assert len(contract_api.asked) == 1


def test_the_order_by_state_takes_several_pages_and_problems_end_at_the_first_healthy_worker(
    contract_api: ContractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_A_PAGE", 2)
    api = AdminApi(Connection(contract_api.url))

    def ids(**arguments: Any) -> list[str]:
        contract_api.asked.clear()
        return [each["node_id"] for each in api.workers(**arguments)["workers"]]

    assert ids(order="state", limit=5) == ["gamma", "beta", "epsilon-10", "epsilon-9", "zeta"]
    assert contract_api.asked == [
        "GET /workers?sort=state&limit=2",
        "GET /workers?sort=state&limit=2&after=stale:beta",
        "GET /workers?sort=state&limit=1&after=active:epsilon-9",
    ]
    assert api.workers(order="state", limit=5)["next"] == "stopped:zeta"
    assert ids(problems=True, limit=5) == ["gamma", "beta"]
    assert len(contract_api.asked) == 2


def test_pages_by_state_in_another_order_are_refused(contract_api: ContractApi) -> None:
    """A first page of healthy workers would hide the others."""
    contract_api.says = 200, {"workers": contract_api.workers[::-1], "next": "stale:beta"}
    done = run_ampctl("--admin-url", contract_api.url, "worker", "list", "--problems")
    assert (done.returncode, "not a response of an Admin API" in done.stderr) == (1, True)


def test_ampctl_filters_if_the_api_does_not(contract_api: ContractApi) -> None:
    contract_api.says = 200, {"workers": contract_api.workers}
    assert listed(contract_api.url, "--state", "lost,stopped") == ["gamma", "zeta"]
    assert listed(contract_api.url, "--version", "v1.10.0") == ["beta", "epsilon-9"]
    assert listed(contract_api.url, "--limit", "2") == ["beta", "delta"]
    api = AdminApi(Connection(contract_api.url))
    assert api.workers(limit=2)["next"] == "delta"
    after = api.workers(after="epsilon-10")["workers"]
    assert [each["node_id"] for each in after] == ["epsilon-9", "gamma", "zeta"]


def test_json_is_the_apis_answer_and_a_filtered_one_has_its_shape(contract_api: ContractApi) -> None:
    def answer(*arguments: str) -> dict[str, object]:
        done = run_ampctl("--admin-url", contract_api.url, "worker", "list", *arguments)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    assert answer("--json") == {"workers": contract_api.workers}
    assert answer("--output", "json", "--version", "unknown") == {"workers": [contract_api.workers[1]]}
    assert answer("--json", "--limit", "1") == {"workers": [contract_api.workers[0]], "next": "beta"}


def test_csv_has_all_fields_and_can_be_read_again(contract_api: ContractApi) -> None:
    contract_api.workers = [a_worker("a", version='v "1",\x1b[31m\n2'), a_worker("b", "lost", 70.5)]
    done = run_ampctl("--admin-url", contract_api.url, "worker", "list", "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["node_id"], row["state"], row["heartbeat_age_seconds"]) for row in rows] == [
        ("a", "active", "1.0"),
        ("b", "lost", "70.5"),
    ]
    assert [row["uptime_seconds"] for row in rows] == ["2086.000", ""]
    assert rows[0]["version"] == r'v "1",\x1b[31m\n2'
    assert rows[0]["created_at"] == "2025-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("worker", "seconds"),
    [
        (a_worker("w", "active", 1.5), 2_086.5),
        (a_worker("w", "stale", 30), 2_115),
        (a_worker("w", "active", 0.2, registered_at="2025-01-15T17:20:16Z"), 0),
        (a_worker("w", "lost", 70), None),
        (a_worker("w", "stopped", 1), None),
        (a_worker("w", registered_at="unknown"), None),
        (a_worker("w", heartbeat_at="2025-01-15"), None),
    ],
)
def test_uptime_uses_only_the_databases_clock(worker: dict[str, object], seconds: float | None) -> None:
    assert uptime_seconds(worker) == seconds


def test_columns_are_aligned_by_terminal_cells() -> None:
    rows = [a_worker("a", version="版本2"), a_worker("b", version="e\u0301"), a_worker("c", version="\x1b[1m")]
    assert table(rows, colour=False).splitlines() == [
        "STATE   NODE ID  LAST SEEN  VERSION  UPTIME  JOBS  STATUS",
        "active  a        1s         版本2    34m46s  -     -",
        "active  b        1s         e\u0301        34m46s  -     -",
        r"active  c        1s         \x1b[1m  34m46s  -     -",
    ]


def test_characters_outside_the_outputs_encoding_are_escaped(contract_api: ContractApi) -> None:
    contract_api.workers = [a_worker("a", version="版本")]
    command = ("ampctl", "--admin-url", contract_api.url, "worker", "list", "--wide")
    done = run(*command, env={"PYTHONIOENCODING": "iso-8859-1"})
    assert done.returncode == 0, done.stderr
    assert r"\u7248\u672c" in done.stdout


def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    contract_api: ContractApi, terminal: StartTerminal
) -> None:
    command = ("ampctl", "worker", "list", "--wide")
    plain = WIDE.replace("\n", "\r\n") + "6 workers: 1 lost, 1 stale, 2 active, 1 stopped, 1 forgotten\r\n"
    for env, expected in (
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ):
        shown = terminal(*command, url=contract_api.url, env=env)
        assert shown.wait() == 0
        assert ("\x1b[31mlost\x1b[0m" in shown.output) == expected
        assert re.sub(r"\x1b\[\d+m", "", shown.output) == plain


@pytest.mark.parametrize(
    "command",
    ["list", "list --wide", "list --json", "list --output csv", "inspect gamma --wide", "forget gamma --dry-run"],
)
def test_an_output_that_is_closed_gets_nothing(contract_api: ContractApi, command: str) -> None:
    done = run("bash", "-c", f"ampctl --admin-url {contract_api.url} worker {command} >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert contract_api.asked


def test_inspect_shows_state_and_age_when_asked_to(api_url: str) -> None:
    documented = run_ampctl("--admin-url", api_url, "worker", "inspect", "epsilon-9").stdout
    wide = run_ampctl("--admin-url", api_url, "worker", "inspect", "epsilon-9", "--wide").stdout
    assert wide.replace("State: active\nLast Seen: 1d1h\nUptime: 4d3h\n", "") == documented
    assert wide != documented


def test_a_format_can_be_named_twice(contract_api: ContractApi) -> None:
    twice = run_ampctl("--admin-url", contract_api.url, "worker", "list", "--json", "-o", "json", "--json")
    assert (twice.returncode, twice.stderr) == (0, "")
    assert json.loads(twice.stdout) == {"workers": contract_api.workers}
    two = run_ampctl("--admin-url", contract_api.url, "worker", "inspect", "gamma", "--wide", "--json")
    assert (two.returncode, two.stdout) == (2, "")
    assert "either 'wide' or 'json'" in two.stderr


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (
            ["--state", "lots"],
            "'lots' is not one of failed, lost, stale, stuck, active, stopped, forgotten. Did you mean 'lost'?",
        ),
        (["--state", "active,"], "'' is not one of failed, lost, stale, stuck, active, stopped, forgotten."),
        (["--sort", "name"], "'name' is not one of"),
        (["--limit", "0"], "--limit"),
        (["--interval", "5s"], "--interval needs --watch"),
        (["--watch", "--json"], "--watch needs --output text, wide or jsonl"),
        (["--json", "--wide"], "either 'json' or 'wide'"),
        (["--output", "csv", "--wide"], "either 'csv' or 'wide'"),
        (["--wide", "-o", "json", "--watch"], "either 'wide' or 'json'"),
        (["-o", "text", "-o", "csv"], "either 'text' or 'csv'"),
        (["-o", "xml"], "'xml' is not one of 'text', 'wide', 'json', 'jsonl', 'csv', 'name'"),
        (["--watch", "--interval", "0s"], "0.1s is the shortest"),
        (["--watch", "--interval", "5x"], "invalid duration '5x' (examples: 5s"),
    ],
)
def test_wrong_usage_is_reported(arguments: list[str], reported: str) -> None:
    done = run_ampctl("worker", "list", *arguments)
    assert done.returncode == 2
    assert reported in done.stderr
