import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from amp_workers.ampd.cli import COMMANDS
from amp_workers.ampd.logs import JsonLines, Logfmt, configure_logs, log_level
from amp_workers.ampd.options import DurationType
from amp_workers.ampd.process_title import process_title
from tests.processes import Processes, command_lines, eventually, get, run


@pytest.mark.parametrize("command", ["", "solo", "migrate", "worker", "admin", "exporter"])
def test_every_command_has_help_with_an_example(forked: Processes, command: str) -> None:
    done = forked.ampd(*command.split(), "--help")
    assert done.wait() == 0
    assert "ampd" in done.output
    assert "Example" in done.output or command == ""


def test_version(forked: Processes) -> None:
    """The version is the one that a worker registers with."""
    build = {"AMP_BUILD_VERSION": "v1.2.3-4-g8b065bde"}
    for command in COMMANDS:
        shown = forked.ampd(command, "--version", env=build)
        assert (shown.wait(), shown.output) == (0, f"ampd {command}, version v1.2.3-4-g8b065bde\n")
    for program in ("ampd", "ampctl"):
        assert run(program, "--version", env=build).stdout == f"{program}, version v1.2.3-4-g8b065bde\n"
    assert re.fullmatch(r"ampd, version v\d+\.\d+\.\d+(-\d+-g[0-9a-f]{8})?(-dirty)?\n", run("ampd", "--version").stdout)


def test_an_unsupported_system_is_refused() -> None:
    code = "import sys; sys.platform = 'darwin'; from amp_workers.ampd.cli import main; main()"
    done = run("python", "-c", code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("Error: ampd needs Linux, for prctl(2) and TCP_USER_TIMEOUT; this is darwin. ampctl runs.\n")


@pytest.mark.parametrize("command", [["migrate"], ["worker", "--node-id=w"], ["admin"], ["exporter"]])
def test_the_url_of_the_metadata_db_is_required(forked: Processes, command: list[str]) -> None:
    done = forked.ampd(*command)
    assert done.wait() == 2
    assert "AMP_METADATA_DB_URL" in done.output
    assert "AMP_CONFIG_METADATA_DB__URL" in done.output


@pytest.mark.parametrize("name", ["AMP_METADATA_DB_URL", "AMP_CONFIG_METADATA_DB__URL"])
def test_an_invalid_url_is_refused_and_not_quoted(forked: Processes, name: str) -> None:
    done = forked.ampd("migrate", env={name: "postgresql://u:hunter2%zz@h/d"})
    assert done.wait() == 2
    assert "libpq cannot read it" in done.output
    assert "hunter2" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["admin", "--stale-after", "nan"],
        ["admin", "--web.grafana-url", "grafana.example.org"],
        ["admin", "--web.grafana-url", "javascript:alert(1)"],
        ["admin", "--web.grafana-url", "https://[::1"],
        ["admin", "--stale-after", "100", "--lost-after", "10"],
        ["exporter", "--lost-after", "1e30"],
        ["admin", "--forget-after", "24 hours"],
        ["migrate", "--timeout", "-1"],
        ["worker", "--stop-timeout", "-1", "--node-id=w", "--", "true"],
        ["exporter", "--web.telemetry-path", "/<x"],
        ["exporter", "--web.telemetry-path", "/-/healthy"],
        ["exporter", "--web.telemetry-path", "/"],
        ["exporter", "--web.telemetry-path", "metrics"],
        ["exporter", "--web.listen-address", "9610"],
        ["admin", "--log.format", "xml"],
        ["worker", "--log.level", "loud", "--node-id=w"],
        ["exporter", "--collector.workers", "some"],
    ],
)
def test_an_invalid_option_is_wrong_usage(forked: Processes, arguments: list[str]) -> None:
    done = forked.ampd(*arguments, database="postgresql://127.0.0.1:1/d")
    assert done.wait() == 2
    assert arguments[1] in done.output
    assert "Traceback" not in done.output


def test_migrate_prints_its_result_or_its_error(empty_database: str) -> None:
    done = run("ampd", "migrate", env={"AMP_METADATA_DB_URL": empty_database})
    assert done.returncode == 0
    assert done.stdout.endswith("the schema of the workers table is now up to date\n")
    failed = run("ampd", "migrate", "--timeout=0", env={"AMP_METADATA_DB_URL": "postgresql://u:hunter2@127.0.0.1:1/d"})
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: postgresql://u@127.0.0.1:1/d: the metadata DB cannot be reached: ")
    assert failed.stderr.count("\n") == 1
    assert "hunter2" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["/x/ampd", "worker", "--node-id", "w"], "ampd worker --node-id w"),
        (["/x/ampd/__main__.py", "migrate", "--metadata-db-url", "postgres://u:hunter2@h/d"], None),
        (["ampd", "migrate", "--metadata-db-url=postgresql://u:hun ter2@h/d?password=hunter2"], None),
    ],
)
def test_the_process_title_has_no_password(arguments: list[str], title: str | None) -> None:
    assert "ter2" not in process_title(arguments)
    assert process_title(arguments).startswith("ampd ")
    assert title is None or process_title(arguments) == title


@pytest.mark.parametrize("command", [["worker", "--node-id=w"], ["admin"], ["exporter"]])
def test_ps_shows_no_password(processes: Processes, command: list[str], unused_port: int) -> None:
    listen = ["--web.listen-address", f"127.0.0.1:{unused_port}"] if command[0] != "worker" else []
    process = processes.ampd(*command, *listen, "--metadata-db-url", "postgresql://u:hunter2@127.0.0.1:1/d")
    process.says("cannot be reached" if command[0] == "worker" else "listens on")
    shown = command_lines(process.pid, *(child.pid for child in process.descendants()))
    assert "ampd" in shown
    assert "hunter2" not in shown
    assert "hunter2" not in process.output


def test_each_event_is_one_log_line() -> None:
    record = logging.LogRecord("worker", logging.WARNING, "", 0, 'a "b"\n%s', ("c",), None)
    record.created = 1736961615.123
    assert Logfmt().format(record) == ('ts=2025-01-15T17:20:15.123Z level=warn component=worker msg="a \\"b\\"\\nc"')


def test_fields_follow_the_message() -> None:
    extra = {
        "node_id": "worker-01",
        "exit_code": 137,
        "url": "postgresql://u@/d?host=/x",
        "reason": 'a "b"\n',
        "of": None,
    }
    record = logging.makeLogRecord({"msg": "stopped", "name": "amp_workers.worker", "created": 0.0} | extra)
    assert Logfmt().format(record).partition(" msg=")[2] == (
        '"stopped" node_id=worker-01 exit_code=137 url="postgresql://u@/d?host=/x" reason="a \\"b\\"\\n"'
    )


def test_json_has_the_fields_of_logfmt() -> None:
    extra = {"node_id": "worker-01", "exit_code": 137, "of": None, "url": Path("/x")}
    record = logging.makeLogRecord(
        {"msg": 'a "b"', "name": "amp_workers.worker", "created": 0.0, "levelno": logging.INFO, "levelname": "INFO"}
        | extra
    )
    assert json.loads(JsonLines().format(record)) == {
        "ts": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "component": "worker",
        "msg": 'a "b"',
        "node_id": "worker-01",
        "exit_code": 137,
        "url": "/x",
    }


@pytest.mark.slow
def test_log_options_take_precedence_over_the_environment(forked: Processes, database: str) -> None:
    options = ("--node-id=w", "--log.level=debug", "--log.format=json", "--", "sh", "-c", "sleep 1.5")
    worker = forked.ampd("worker", *options, database=database, env={"AMP_LOG": "error"})
    assert worker.wait() == 0
    lines = [json.loads(line) for line in worker.output.splitlines()]
    assert {line["level"] for line in lines} == {"debug", "info"}
    assert {line["node_id"] for line in lines} == {"w"}


def test_each_line_of_a_worker_has_its_node_id(forked: Processes, database: str) -> None:
    worker = forked.ampd("worker", "--node-id=w", "--", "sh", "-c", "exit 7", database=database)
    assert worker.wait() == 7
    lines = [line for line in worker.output.splitlines() if line.startswith("ts=")]
    assert all(" node_id=w" in line for line in lines), worker.output
    assert any(line.endswith(" node_id=w exit_code=7") for line in lines), worker.output


def test_an_unknown_level_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMP_LOG", "loud")
    with pytest.raises(click.UsageError, match="AMP_LOG=loud is not a level: use error, warn, info, debug or trace"):
        configure_logs()


@pytest.mark.slow
def test_a_known_level_is_used(forked: Processes, database: str, sql: Callable[..., list[Any]]) -> None:
    quiet = forked.ampd("worker", "--node-id=quiet", database=database, env={"AMP_LOG": "error"})
    loud = forked.ampd("worker", "--node-id=loud", database=database, env={"AMP_LOG": "debug"})
    loud.says("'loud' sent a heartbeat", times=2)
    eventually(lambda: sql("SELECT node_id FROM workers WHERE node_id = 'quiet'"))  # it logs nothing about it
    assert (quiet.stop(), quiet.output) == (0, "")


def test_a_variable_may_end_with_a_newline(forked: Processes, database: str, unused_port: int) -> None:
    worker = forked.ampd("worker", env={"AMP_METADATA_DB_URL": f"{database}\n", "AMP_NODE_ID": "w\r\n"})
    worker.says("registered as 'w'")
    listen = f"--web.listen-address=127.0.0.1:{unused_port}"
    token = "0123456789abcdef"
    forked.ampd("admin", listen, database=database, env={"AMP_AUTH_TOKEN": f"{token}\n"})
    bearer = {"Authorization": f"Bearer {token}"}
    eventually(lambda: get(f"http://127.0.0.1:{unused_port}/workers/w", bearer))


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("migrate", "AMP_METADATA_DB_URL", "postgresql://127.0.0.1:1/d"),
        ("worker", "AMP_NODE_ID", "w"),
        ("admin", "AMP_AUTH_TOKEN", "0123456789abcdef"),
    ],
)
def test_a_byte_order_mark_in_a_variable_is_named(forked: Processes, command: str, name: str, value: str) -> None:
    done = forked.ampd(command, env={"AMP_METADATA_DB_URL": "postgresql://127.0.0.1:1/d", name: f"\ufeff{value}"})
    assert done.wait() in {1, 2}
    assert "UTF-8 byte order mark" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("value", "level", "ignored"),
    [
        ("", "info", []),
        ("trace", "trace", []),
        (" Warn\n", "warn", []),
        ("info,amp=debug", "info", ["amp=debug"]),
        ("amp[span]=debug, sqlx=off,error", "error", ["amp[span]=debug", "sqlx=off"]),
        ("amp=trace", "info", ["amp=trace"]),
    ],
)
def test_a_level_may_be_combined_with_directives(value: str, level: str, ignored: list[str]) -> None:
    assert log_level({"AMP_LOG": value}) == (level, ignored)


def test_ignored_directives_are_logged_once(forked: Processes, database: str) -> None:
    worker = forked.ampd("worker", "--node-id=w", "--", "true", database=database, env={"AMP_LOG": "amp=debug,info"})
    assert worker.wait() == 0
    assert worker.output.count('ignored="amp=debug"') == 1
    assert "registered as 'w'" in worker.output


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("0.5s", 0.5), ("1m30s", 90), ("24h", 86_400), ("30d", 2_592_000)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert DurationType().convert(text, None, None) == seconds
