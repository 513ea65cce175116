"""`ampctl worker list --watch`, at a terminal and elsewhere."""

import re
import signal
import time

import psutil
import pytest

from tests.ctl.conftest import StartTerminal, fleet
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.processes import Processes, eventually, free_port

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
    shown.says("7 workers: 1 lost, 1 stale, 3 active, 1 stopped, 1 forgotten  (every 0.2s, Ctrl-C ends)")
    shown.type("\x03") if way == "Ctrl-C" else shown.signal(signal.SIGTERM)
    assert shown.wait() == 0
    assert shown.attributes_now == shown.attributes
    assert shown.output.startswith(ENTER)
    screens = shown.output.removeprefix(ENTER).replace("^C", "")
    assert screens.endswith(LEAVE)
    assert screens.count(LEAVE) == 1
    # Every screen is drawn over the one before: from the corner, each line to its end, and nothing left below.
    screen = r"\x1b\[H([^\n]*\x1b\[K\r\n)*[^\n]*\x1b\[K\x1b\[J"
    assert re.fullmatch(f"({screen})+", screens.removesuffix(LEAVE))


def test_it_survives_the_api_and_tells_how_old_is_what_it_shows(terminal: StartTerminal) -> None:
    port = free_port()
    began = time.monotonic()
    with serving(fleet(), port=port) as api:
        shown = terminal(*WATCH, url=api.url)
        shown.says("6 workers")
    away = re.compile(rf"below is from (\d+)s ago: cannot reach the Admin API at {api.url}: Connection refused")

    def age() -> int:
        return max(map(int, away.findall(shown.output)), default=0)

    # On a busy machine no screen may be drawn for seconds: the first age may be any.
    assert eventually(age, 30) <= time.monotonic() - began + 1  # it is rounded
    screen = shown.output.rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]
    assert "beta (last heartbeat" in screen
    with serving(fleet(), port=port) as back:
        eventually(lambda: back.asked, 30)
        shown.says("6 workers", shown.output.count("6 workers") + 1)


def test_an_api_that_is_away_at_the_start_is_waited_for(terminal: StartTerminal) -> None:
    api = fleet()
    api.silent = True
    with serving(api):
        shown = terminal(*WATCH, url=api.url)
        shown.says("nothing seen yet: cannot reach the Admin API")
        api.silent = False
        shown.says("6 workers")


def test_what_does_not_fit_the_screen_is_counted(terminal: StartTerminal) -> None:
    with serving(ContractApi([a_worker(f"w{number:02}") for number in range(30)])) as api:
        shown = terminal(*WATCH, "--limit", "29", url=api.url, rows=10)
        shown.says("29 workers: 29 active, and more")
        shown.says("… 22 more")
        assert "w06 (" in shown.output
        assert "w07 (" not in shown.output
        of_no_size = terminal(*WATCH, url=api.url, rows=0, columns=0)
        of_no_size.says("w29 (")


def test_another_size_is_drawn_at_once(contract_api: ContractApi, terminal: StartTerminal) -> None:
    shown = terminal(*SELDOM, url=contract_api.url)
    shown.says("zeta")
    shown.resize(rows=5, columns=80)
    shown.says("… 4 more")
    assert len(contract_api.asked) == 1


def test_ctrl_z_gives_the_terminal_back_and_it_goes_on_afterwards(
    contract_api: ContractApi, terminal: StartTerminal
) -> None:
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


def test_elsewhere_it_adds_each_round_with_no_escapes_and_tells_an_outage_once(processes: Processes) -> None:
    port = free_port()
    with serving(fleet(), port=port) as api:
        watching = processes.start(*WATCH, "--limit", "1", env={"AMP_ADMIN_URL": api.url})
        watching.says("beta (last", times=2)
        api.silent = True
        watching.says("trying again every 0.2s")
        tried = len(api.asked)
        asked = watching.output.count("beta (last")
    with serving(fleet(), port=port):
        watching.says("the Admin API answers again")
        watching.says("beta (last", times=asked + 1)
    assert watching.stop() == 0
    assert tried
    assert watching.output.count("trying again") == 1
    assert re.fullmatch(r"beta \S+ \S+ \S+\n(\nbeta [^\n]*\n)+", re.sub(r".*(again|0\.2s)\n", "", watching.output))
    assert "\x1b" not in watching.output


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_an_output_that_is_closed_gets_nothing(contract_api: ContractApi, processes: Processes, closed: str) -> None:
    command = f"exec {' '.join(WATCH)} --wide {closed}"
    watching = processes.start("bash", "-c", command, env={"AMP_ADMIN_URL": contract_api.url})
    for silent in (False, True, False):
        contract_api.silent = silent
        asked = len(contract_api.asked)
        # One may have been answered as before, and the last one may not have been told of yet.
        eventually(lambda asked=asked: len(contract_api.asked) > asked + 2, 30)  # type: ignore[misc]
    assert watching.stop() == 0
    told = "trying again every 0.2s\nthe Admin API answers again\n" if closed == ">&-" else ""
    assert watching.output.endswith(told)
    assert watching.output.count("\n") == told.count("\n")
