"""`ampctl worker list --watch`, with and without a terminal."""

import json
import re
import signal
import threading
import time
from typing import Any

import psutil
import pytest

from tests.ctl.conftest import StartTerminal, fleet
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.processes import Processes, eventually, free_port

pytestmark = pytest.mark.slow

WATCH = ("ampctl", "worker", "list", "--watch", "--interval", "0.2s")
SELDOM = ("ampctl", "worker", "list", "--watch", "--interval", "1h")
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM"])
def test_it_redraws_in_place_and_leaves_the_terminal_as_it_was(
    contract_api: ContractApi, terminal: StartTerminal, way: str
) -> None:
    shown = terminal(*WATCH, "--wide", url=contract_api.url)
    shown.says("\x1b[H", times=3)
    contract_api.workers.append(a_worker("newcomer"))
    shown.says("newcomer")
    shown.says("7 workers: 1 lost, 1 stale, 3 active, 1 stopped, 1 forgotten  (every 0.2s, q ends)")
    shown.type("\x03") if way == "Ctrl-C" else shown.signal(signal.SIGTERM)
    assert shown.wait() == 0
    assert shown.attributes_now == shown.attributes
    assert shown.output.startswith(ENTER)
    screens, leave, last = shown.output.removeprefix(ENTER).partition(LEAVE)
    # Each screen is drawn over the previous one: from the corner, with each line erased first, and the rest below
    # erased.
    screen = r"\x1b\[H(\x1b\[2K[^\n]*\r\n)*\x1b\[2K[^\n]*\x1b\[J"
    assert leave
    assert re.fullmatch(f"({screen})+", screens.replace("^C", ""))
    # The last screen stays in the scrollback.
    assert (
        last == screens.replace("^C", "").rpartition("\x1b[H")[2].removesuffix("\x1b[J").replace("\x1b[2K", "") + "\r\n"
    )


def test_it_continues_in_an_outage_and_shows_the_age_of_its_data(terminal: StartTerminal) -> None:
    port = free_port()
    began = time.monotonic()
    with serving(fleet(), port=port) as api:
        shown = terminal(*WATCH, url=api.url)
        shown.says("6 workers")
    away = re.compile(r"below is from (\d+)s ago: cannot reach the Admin API: Connection refused")

    def age() -> int:
        return max(map(int, away.findall(shown.output)), default=0)

    # On a busy machine, no screen may be drawn for seconds: the first age may have any value.
    assert eventually(age, 30) <= time.monotonic() - began + 1  # the age is rounded
    screen = shown.output.rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]
    assert api.url in screen
    assert "beta (last heartbeat" in screen
    with serving(fleet(), port=port) as back:
        eventually(lambda: back.asked)
        shown.says("6 workers", shown.output.count("6 workers") + 1)


def test_it_waits_for_an_api_that_is_unavailable_at_the_start(terminal: StartTerminal) -> None:
    api = fleet()
    api.silent = True
    with serving(api):
        shown = terminal(*WATCH, url=api.url)
        shown.says("nothing seen yet: cannot reach the Admin API")
        api.silent = False
        shown.says("6 workers")


def test_what_does_not_fit_the_screen_is_counted(terminal: StartTerminal) -> None:
    with serving(ContractApi([a_worker(f"w{number:02}") for number in range(30)])) as api:
        shown = terminal(*WATCH, "--limit", "29", url=api.url, rows=11)
        shown.says("29 workers: 29 active, and more")
        shown.says("1-7 of 29  (arrows, PgUp, PgDn)")
        assert "w06 (" in shown.output
        assert "w07 (" not in shown.output
        for key, lines in (
            ("\x1b[B", "2-8"),
            ("\x1b[6~", "9-15"),
            ("\x1b[5~\x1b[A\x1b[A", "1-7"),
            ("\x1b[F", "23-29"),
            (" k", "22-28"),
            ("\x1b[H", "1-7"),
        ):
            shown.type(key)
            shown.says(f"\x1b[2K{lines} of 29")
        shown.type("q")
        assert shown.wait() == 0
        assert shown.attributes_now == shown.attributes
        of_no_size = terminal(*WATCH, url=api.url, rows=0, columns=0)
        of_no_size.says("w29 (")


def test_a_resized_terminal_is_redrawn_at_once(contract_api: ContractApi, terminal: StartTerminal) -> None:
    shown = terminal(*SELDOM, url=contract_api.url)
    shown.says("zeta")
    shown.resize(rows=8, columns=80)
    shown.says("1-3 of 6")
    assert len(contract_api.asked) == 1


def test_ctrl_z_restores_the_terminal_and_fg_continues(contract_api: ContractApi, terminal: StartTerminal) -> None:
    shown = terminal(*SELDOM, url=contract_api.url)
    shown.says("zeta")
    shown.signal(signal.SIGTSTP)
    eventually(lambda: psutil.Process(shown.popen.pid).status() == psutil.STATUS_STOPPED)
    shown.says(LEAVE)
    shown.signal(signal.SIGCONT)
    shown.says(ENTER, times=2)
    shown.says("zeta", times=2)
    shown.type("\x03")
    assert shown.wait() == 0


def test_without_a_terminal_it_appends_each_round_and_reports_an_outage_once(processes: Processes) -> None:
    port = free_port()
    with serving(fleet(), port=port) as api:
        watching = processes.start(*WATCH, "--limit", "1", env={"AMP_ADMIN_URL": api.url})
        watching.says("gamma (last", times=2)
        api.silent = True
        watching.says("retrying every 0.2s")
        tried = len(api.asked)
        asked = watching.output.count("beta (last")
    with serving(fleet(), port=port):
        watching.says("the Admin API is available again")
        watching.says("gamma (last", times=asked + 1)
    assert watching.stop() == 0
    assert tried
    assert watching.output.count("retrying") == 1
    assert re.fullmatch(r"gamma \S+ \S+ \S+\n(\ngamma [^\n]*\n)+", re.sub(r".*(again|0\.2s)\n", "", watching.output))
    assert "\x1b" not in watching.output


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_an_output_that_is_closed_gets_nothing(contract_api: ContractApi, processes: Processes, closed: str) -> None:
    command = f"exec {' '.join(WATCH)} --wide {closed}"
    watching = processes.start("bash", "-c", command, env={"AMP_ADMIN_URL": contract_api.url})
    for silent in (False, True, False):
        contract_api.silent = silent
        asked = len(contract_api.asked)
        # The first response may show the state before, and the last one may be missing on the screen.
        eventually(lambda asked=asked: len(contract_api.asked) > asked + 2, 30)  # type: ignore[misc]
    assert watching.stop() == 0
    reported = "retrying every 0.2s\nthe Admin API is available again\n" if closed == ">&-" else ""
    assert watching.output.endswith(reported)
    assert watching.output.count("\n") == reported.count("\n")


def test_a_key_works_while_the_api_is_slow(terminal: StartTerminal) -> None:
    class Slow(ContractApi):
        def answer(self, method: str, target: str, authorization: str | None) -> tuple[int, Any]:
            if len(self.asked) == 1:
                hanging.wait(30)
            return super().answer(method, target, authorization)

    hanging = threading.Event()
    with serving(Slow([a_worker(f"w{number:02}") for number in range(30)])) as api:
        shown = terminal(*WATCH, url=api.url, rows=11)
        shown.says("1-7 of 30")
        shown.type("j")
        shown.says("2-8 of 30")
        hanging.set()


def test_the_cause_of_a_failure_is_readable_at_80_columns(contract_api: ContractApi, terminal: StartTerminal) -> None:
    cause = f"the metadata DB did not answer within 5 s: {'a reason and ' * 8}its end"
    contract_api.says = 503, {"error_code": "METADATA_DB_UNAVAILABLE", "error_message": cause}
    shown = terminal(*SELDOM, url=contract_api.url, columns=80)
    shown.says("(METADATA_DB_UNAVAILABLE)")
    shown.says(contract_api.url)
    screen = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown.output)
    lines = screen.split("nothing seen yet")[1].split("\r\n")
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines).startswith(f": {cause}")


def changes(output: str) -> list[tuple[str, str | None, str | None]]:
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(each["node_id"], each["state_before"], each["state_after"]) for each in found]


def test_changes_are_streamed_from_the_first_response_and_through_an_outage(processes: Processes) -> None:
    with serving(fleet()) as api:
        watching = processes.start(*WATCH, "-o", "jsonl", env={"AMP_ADMIN_URL": api.url})
        eventually(lambda: len(changes(watching.output)) == 6)
        assert ("beta", None, "stale") in changes(watching.output)
        api.workers[0]["heartbeat_age_seconds"] += 1
        api.workers[2] |= {"state": "lost", "heartbeat_age_seconds": 70.0}
        eventually(lambda: len(changes(watching.output)) == 7)
        api.silent = True
        watching.says("retrying every 0.2s")
        api.workers.pop(0)
        api.workers.append(a_worker("newcomer"))
        api.silent = False
        eventually(lambda: len(changes(watching.output)) == 9)
        assert watching.stop() == 0
    assert changes(watching.output)[6:] == [
        ("epsilon-10", "active", "lost"),
        ("beta", "stale", None),
        ("newcomer", None, "active"),
    ]
    last = [json.loads(line) for line in watching.output.splitlines() if line.startswith("{")][-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", last["time"])
    assert last["worker"]["node_id"] == "newcomer"


def test_changes_are_filtered_by_the_old_and_the_new_state(processes: Processes) -> None:
    with serving(fleet()) as api:
        watching = processes.start(*WATCH, "-o", "jsonl", "--state", "lost", env={"AMP_ADMIN_URL": api.url})
        eventually(lambda: changes(watching.output) == [("gamma", None, "lost")])
        api.workers[5]["state"] = "active"
        api.workers[4]["state"] = "active"
        eventually(lambda: changes(watching.output)[1:] == [("gamma", "lost", "active")])
        assert watching.stop() == 0
