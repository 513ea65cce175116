"""The table of `ampctl worker list --wide`: its columns, and its width in a terminal."""

import re

import pytest

from amp_workers.ctl.columns import COLUMNS, CSV
from amp_workers.ctl.fields import STATES
from amp_workers.ctl.table import cells, summary, table
from tests.admin.contract import DOCUMENT
from tests.ctl.conftest import StartTerminal
from tests.ctl.contract_api import ContractApi, a_worker
from tests.processes import run, run_ampctl

LONG = "extract-" + "very-long-" * 16 + "end"


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", text).splitlines()


@pytest.fixture
def troubled(contract_api: ContractApi) -> ContractApi:
    contract_api.workers = [
        a_worker(LONG, "active", 0.2, version="v0.3.1-15-g8b065bde-dirty"),
        a_worker("failed", "failed", 40, failure="killed by SIGKILL", exit_code=137, jobs=3),
        a_worker("future", "active", -3.5),
        a_worker("odd", "of-tomorrow", 1),
        a_worker("stuck", "stuck", 0.5, progress="block 5 of 7", progress_at="2025-01-15T17:10:15Z", jobs=0),
        a_worker("stopped", "stopped", 4_000, exit_code=143),
    ]
    return contract_api


def test_status_is_the_failure_or_the_progress(troubled: ContractApi) -> None:
    done = run_ampctl("--admin-url", troubled.url, "worker", "list", "--columns", "id,last-seen,jobs,status")
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows == [
        ["NODE ID", "LAST SEEN", "JOBS", "STATUS"],
        [LONG, "0s", "-", "-"],
        ["failed", "40s", "3", "killed by SIGKILL"],
        ["future", "-3s", "-", "-"],
        ["odd", "1s", "-", "-"],
        ["stopped", "1h6m", "-", "exit code 143"],
        ["stuck", "0s", "0", "no progress for 10m: block 5 of 7"],
    ]


@pytest.mark.parametrize("columns", [80, 200])
def test_it_fits_the_terminal_and_a_summary_follows(
    troubled: ContractApi, terminal: StartTerminal, columns: int
) -> None:
    shown = terminal("ampctl", "worker", "list", "--wide", "--sort", "state", url=troubled.url, columns=columns)
    assert shown.wait() == 0
    lines = plain(shown.output)
    assert max(map(cells, lines)) <= columns
    assert re.split(r"  +", lines[0]) == ["STATE", "NODE ID", "LAST SEEN", "VERSION", "UPTIME", "JOBS", "STATUS"]
    assert [line.split()[0] for line in lines[1:7]] == [
        *("failed", "stuck", "of-tomorrow", "active", "active", "stopped"),
    ]
    assert [line for line in lines if re.search(r" extr\S*…\S*end ", line)]
    assert " ".join(lines[7:]) == "6 workers: 1 failed, 1 stuck, 1 of-tomorrow, 2 active, 1 stopped"


def test_nothing_is_cut_through_a_pipe_or_with_no_trunc(troubled: ContractApi, terminal: StartTerminal) -> None:
    command = ("ampctl", "worker", "list", "--wide")
    piped = run(*command, env={"AMP_ADMIN_URL": troubled.url}).stdout
    assert LONG in piped
    assert "workers:" not in piped
    whole = terminal(*command, "--no-trunc", url=troubled.url, columns=80)
    assert whole.wait() == 0
    assert LONG in whole.output


@pytest.mark.parametrize("width", range(20, 130, 7))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    workers = [a_worker(LONG, "forgotten", 1e7, version="版" * 100), a_worker("e\u0301" * 90, progress="p " * 100)]
    lines = table(workers, width=width).splitlines()
    assert max(map(cells, lines)) <= width
    assert all(line.split()[0] in {"STATE", "forgotten", "active"} for line in lines)


def test_short_texts_leave_space_for_long_ones() -> None:
    lines = table([a_worker(LONG, version="v1")], width=120).splitlines()
    assert len(lines[1].split()[1]) == 120 - len("STATE   LAST SEEN  VERSION  UPTIME  ")


def test_a_column_without_values_is_omitted_where_it_would_shorten_a_text() -> None:
    failed = a_worker("extract-eu-west-1", "failed", 40, failure="killed by SIGKILL", version="v0.3.1-15-g8b065bde")
    narrow, wide = (table([failed], width=width).splitlines() for width in (80, 100))
    assert narrow[0].split("  ")[-1] == "STATUS"
    assert ("UPTIME" in narrow[0], "UPTIME" in wide[0]) == (False, True)
    assert all(lines[1].endswith("  killed by SIGKILL") for lines in (narrow, wide))
    assert "…" not in narrow[1] + wide[1]


def test_an_empty_fleet_has_a_summary() -> None:
    assert (summary([]), summary([a_worker("w")])) == ("0 workers", "1 worker: 1 active")


def test_headings_can_be_left_out(contract_api: ContractApi) -> None:
    def printed(*arguments: str) -> list[str]:
        command = ("ampctl", "--admin-url", contract_api.url, "worker", "list", "--no-headers", *arguments)
        return run(*command).stdout.splitlines()

    assert len(printed("--wide")) == len(printed("-o", "csv")) == 6
    assert printed("--columns", "id,state,version", "beta") == ["beta  stale  v1.10.0"]
    assert printed("--columns", "state,id", "-o", "csv", "beta") == ["stale,beta"]


def test_states_and_fields_are_those_of_the_api() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert list(STATES) == schemas["State"]["enum"]
    fields = (schemas["Worker"]["properties"].keys() - {"info"}) | schemas["Info"]["properties"].keys()
    assert {column.field for column in COLUMNS.values()} - {"uptime_seconds", "status"} == fields
    assert {COLUMNS[name].field for name in CSV} - {"uptime_seconds"} == fields


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "id,stat"], "'stat' is not one of state, id, last-seen"),
        (["--columns", ""], "'' is not one of state, id"),
        (["--columns", "id", "-o", "name"], "--columns needs --output wide or csv"),
        (["--sort", "age"], "'age' is not one of"),
        (["ex[a]"], "invalid node id or glob 'ex[a]'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run_ampctl("worker", "list", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
