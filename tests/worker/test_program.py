"""`ampd worker -- COMMAND` as processes, against a real PostgreSQL."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.migrate import upgrade
from tests.processes import BIN, Process, Processes, clean_environment, command_lines, eventually, run
from tests.worker.rival import take_over

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]
Start = Callable[..., Process]

READY_THEN = "trap 'exit 0' TERM; echo ready; "
FOREVER = "while :; do sleep 0.05; done"


@pytest.fixture
def start(processes: Processes, database: str) -> Start:
    """Start a worker with a program: `start("sh", "-c", "…", stop_timeout=1)`."""

    def start_worker(*command: str, stop_timeout: int = 20, node_id: str = "w") -> Process:
        options = [f"--node-id={node_id}", f"--stop-timeout={stop_timeout}"]
        return processes.ampd("worker", *options, "--", *command, database=database)

    return start_worker


@pytest.fixture
def is_stopped(sql: Sql) -> Callable[[], bool]:
    """Whether the database has recorded that the worker stopped."""
    return lambda: bool(sql("SELECT info ? 'stopped_at' FROM workers")[0][0])


def alive(*pids: int) -> list[int]:
    """Return the processes that still run, without zombies."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def pids_in(file: Path, number: int) -> list[int]:
    """Wait until a file has so many lines. Each line is a pid."""

    def look() -> list[int] | None:
        lines = file.read_text().splitlines() if file.exists() else []
        return [int(line) for line in lines] if len(lines) == number else None

    return eventually(look)


COUNT_WORKERS = """
import psycopg, sys
[(number,)] = psycopg.connect(sys.argv[1]).execute("SELECT count(*) FROM workers WHERE node_id = 'w'")
print(f"started beside {number} row")
"""


def test_heartbeats_while_the_program_runs_and_exits_with_its_code(
    start: Start, sql: Sql, database: str, is_stopped: Callable[[], bool], tmp_path: Path
) -> None:
    script = '"$0" -c "$1" "$2"; until [ -e end ]; do sleep 0.05; done; exit 42'
    worker = start("sh", "-c", script, sys.executable, COUNT_WORKERS, database)
    worker.says("started beside 1 row")  # it has registered; the line of the log may be written later
    assert not is_stopped()
    eventually(lambda: sql("SELECT heartbeat_at > registered_at + interval '2 s' FROM workers") == [(True,)])
    (tmp_path / "end").touch()
    assert worker.wait() == 42
    assert is_stopped()
    assert "registered as 'w'" in worker.output
    assert "'sh' ended with exit code 42" in worker.output
    assert "Traceback" not in worker.output


def test_the_exit_code_of_a_program_that_ends_at_once_is_not_lost(start: Start) -> None:
    workers = [start("sh", "-c", "exit 5", node_id=f"w-{number}") for number in range(8)]
    assert [worker.wait() for worker in workers] == [5] * 8


def test_the_exit_code_is_not_lost_where_the_parent_ignores_the_end_of_its_children(
    processes: Processes, database: str
) -> None:
    ignore = "from signal import *; import os, sys; signal(SIGCHLD, SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [str(BIN / "ampd"), "worker", "--node-id=w", "--", "sh", "-c", "exit 5"]
    worker = processes.start(sys.executable, "-c", ignore, *command, env={"AMP_METADATA_DB_URL": database})
    assert worker.wait() == 5


def test_the_program_has_the_environment_but_not_the_url(processes: Processes, database: str) -> None:
    url = {"AMP_CONFIG_METADATA_DB__URL": database, "OTHER": "kept"}
    worker = processes.ampd("worker", "--node-id=w", "--", "env", database=database, env=url)
    assert worker.wait() == 0
    assert {"AMP_NODE_ID=w", "OTHER=kept"} <= set(worker.output.splitlines())
    assert "METADATA_DB" not in worker.output


def test_arguments_input_output_and_descriptors_pass_untouched(database: str, tmp_path: Path) -> None:
    (tmp_path / "third").write_text("third")
    program = """sh -c 'cat; cat <&3; printf "%s|" "$@"; echo error >&2' sh --help "a  b" "" -- -x"""
    shell = f"ampd worker --node-id w -- {program} 3<third"
    environment = clean_environment() | {"AMP_METADATA_DB_URL": database, "AMP_LOG": "error"}
    done = subprocess.run(
        ["/bin/sh", "-c", shell], input=b"in\0put", env=environment, capture_output=True, check=False, cwd=tmp_path
    )
    assert done.stdout == b"in\0putthird--help|a  b||--|-x|"
    assert done.stderr == b"error\n"


def test_options_after_the_command_belong_to_the_program_even_without_two_dashes(database: str) -> None:
    url = {"AMP_METADATA_DB_URL": database}
    done = run("ampd", "worker", "--node-id=w", "echo", "--node-id", "-h", env=url)
    assert done.stdout == "--node-id -h\n"


def test_a_node_id_that_is_held_starts_no_program(start: Start, tmp_path: Path) -> None:
    first = start("sleep", "60")
    first.says("registered")
    second = start("touch", str(tmp_path / "started"))
    assert second.wait() == 1
    assert "node id 'w' is held by another worker process" in second.output
    assert not (tmp_path / "started").exists()
    assert first.popen.poll() is None


def test_a_worker_whose_parent_ignores_sigterm_does_not_wait_for_a_node_id_that_is_held(
    start: Start, processes: Processes, database: str
) -> None:
    start("sleep", "60").says("registered")
    ignoring = f"trap '' TERM; exec {BIN / 'ampd'} worker --node-id=w -- sleep 60"
    second = processes.start("sh", "-c", ignoring, env={"AMP_METADATA_DB_URL": database})
    assert second.wait() == 1
    assert "node id 'w' is held by another worker process" in second.output


def test_the_program_waits_for_the_database(processes: Processes, empty_database: str) -> None:
    worker = processes.ampd("worker", "--node-id=w", "--", "echo", "it runs", database=empty_database)
    worker.says("run `ampd migrate`")
    time.sleep(1)
    assert "it runs" not in worker.output
    upgrade(MetadataDbUrl.parse(empty_database))
    assert worker.wait() == 0
    assert "it runs" in worker.output


def test_a_signal_that_nohup_has_ignored_does_not_end_the_wait(processes: Processes, empty_database: str) -> None:
    ignoring = f"trap '' HUP; exec {BIN / 'ampd'} worker --node-id=w -- echo 'it runs'"
    worker = processes.start("sh", "-c", ignoring, env={"AMP_METADATA_DB_URL": empty_database})
    worker.says("run `ampd migrate`")
    worker.signal(signal.SIGHUP)
    upgrade(MetadataDbUrl.parse(empty_database))
    assert worker.wait() == 0
    assert "it runs" in worker.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGALRM])
def test_a_signal_before_the_program_starts_determines_the_exit_code(
    processes: Processes, tmp_path: Path, number: int
) -> None:
    command = ["touch", str(tmp_path / "started")]
    worker = processes.ampd("worker", "--node-id=w", "--", *command, database="postgresql://127.0.0.1:1/d")
    worker.says("cannot be reached")
    worker.signal(signal.SIGUSR1)
    worker.signal(signal.SIGWINCH)
    worker.signal(number)
    assert worker.wait() == 128 + number
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_a_signal_is_reported_as_shells_do(start: Start, is_stopped: Callable[[], bool], number: int) -> None:
    assert start("sh", "-c", f"kill -{number} $$").wait() == 128 + number
    assert is_stopped()


def test_a_program_that_does_not_exist(start: Start, is_stopped: Callable[[], bool]) -> None:
    worker = start("no-such-program", "--flag")
    assert worker.wait() == 127
    assert (
        "level=error component=worker msg=\"cannot run 'no-such-program': No such file or directory\" node_id=w"
        in worker.output
    )
    assert "Traceback" not in worker.output
    assert is_stopped()


def test_a_program_that_is_not_executable(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("#!/bin/sh\n")
    worker = start(str(tmp_path / "data"))
    assert worker.wait() == 126
    assert f"cannot run '{tmp_path / 'data'}': Permission denied" in worker.output


TELL_SIGNALS = """
import signal, sys
numbers = [getattr(signal, "SIG" + name) for name in sys.argv[1].split()]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
while True:
    number = signal.sigwait(numbers)
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        break
"""


def test_signals_are_passed_on(start: Start) -> None:
    names = ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TSTP", "CONT", "URG", "PIPE", "IO", "PWR", "STKFLT"]
    names += ["ALRM", "VTALRM", "PROF", "XCPU", "XFSZ", "RTMIN", "RTMAX", "TERM"]
    worker = start(sys.executable, "-c", TELL_SIGNALS, " ".join(names))
    worker.says("ready")
    for name in names:
        worker.signal(getattr(signal, f"SIG{name}"))
        worker.says(f"got SIG{name}\n")
    assert worker.wait() == 0
    assert worker.output.count("got") == len(names)


def test_a_signal_of_job_control_is_not_passed_on(start: Start) -> None:
    worker = start(sys.executable, "-c", TELL_SIGNALS, "TTIN TTOU WINCH TERM")
    worker.says("ready")
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        worker.signal(number)
        worker.signal(signal.SIGCONT)
    worker.signal(signal.SIGWINCH)  # the last of the pending signals to be handled
    worker.says("got SIGWINCH")
    assert worker.stop() == 0
    assert "got SIGTT" not in worker.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
def test_a_program_of_another_user_runs_on_when_it_cannot_be_signalled(processes: Processes, database: str) -> None:
    """As below `sudo`. Without CAP_KILL, root has no more rights than another user."""
    program = ["setpriv", "--reuid=65534", "sh", "-c", f"trap 'exit 7' TERM; echo ready; {FOREVER}"]
    command = ["setpriv", "--bounding-set=-kill", str(BIN / "ampd"), "worker", "--node-id=w", "--", *program]
    worker = processes.start(*command, env={"AMP_METADATA_DB_URL": database})
    worker.says("ready")
    worker.signal(signal.SIGUSR1)
    worker.says("cannot signal 'setpriv' (")
    worker.signal(signal.SIGHUP)
    [guard] = psutil.Process(worker.pid).children()
    guard.children()[0].terminate()
    assert worker.wait() == 7
    assert worker.output.count("cannot signal") == 1
    assert "guard" not in worker.output


def test_a_fault_signal_ends_the_worker_itself(start: Start, tmp_path: Path) -> None:
    worker = start("sh", "-c", f"echo $$ >pids; {FOREVER}")
    pids = pids_in(tmp_path / "pids", 1)
    worker.signal(signal.SIGSEGV)
    assert worker.wait() == -signal.SIGSEGV
    eventually(lambda: not alive(*pids))


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGPWR, signal.SIGIO, signal.SIGRTMIN])
def test_the_stop_is_recorded_when_a_signal_ends_the_program(
    start: Start, is_stopped: Callable[[], bool], number: int
) -> None:
    worker = start("sh", "-c", "echo ready; exec sleep 60")
    worker.says("ready")
    worker.signal(number)
    assert worker.wait() == 128 + number
    assert is_stopped()


def test_an_alarm_that_was_set_before_the_worker_reaches_the_program(processes: Processes, database: str) -> None:
    """The kernel sends the alarm, like a terminal's signals, but to one process only."""
    alarm = "import os, signal, sys; signal.alarm(15); os.execv(sys.argv[1], sys.argv[1:])"
    command = [str(BIN / "ampd"), "worker", "--node-id=w", "--", sys.executable, "-c", TELL_SIGNALS, "ALRM TERM"]
    worker = processes.start(sys.executable, "-c", alarm, *command, env={"AMP_METADATA_DB_URL": database})
    worker.says("got SIGALRM")
    assert worker.stop() == 0


def test_the_program_starts_with_the_signals_it_would_have_without_a_worker(start: Start, database: str) -> None:
    script = "import signal; print('mask', len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    # Only of valid signals: glibc's handling of its own signals depends on how a process is started.
    script += "; print('ignored', [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN])"
    worker = start(sys.executable, "-c", script)
    assert worker.wait() == 0
    assert "mask 0\n" in worker.output
    without = run(sys.executable, "-c", script).stdout.splitlines()[-1]
    assert without.startswith("ignored [")
    assert f"{without}\n" in worker.output
    ignoring = ["sh", "-c", "trap '' HUP; exec ampd worker --node-id w -- sh -c 'kill -HUP $$; echo survived'"]
    assert "survived" in run(*ignoring, env={"AMP_METADATA_DB_URL": database}).stdout


def test_a_program_that_ignores_sigterm_is_killed(start: Start, is_stopped: Callable[[], bool]) -> None:
    worker = start("sh", "-c", f"trap 'echo ignored' TERM; echo ready; {FOREVER}", stop_timeout=3)
    worker.says("ready")

    def ask_until_it_ends() -> bool:
        if worker.popen.poll() is None:
            worker.signal(signal.SIGTERM)
        return worker.popen.poll() is not None

    eventually(ask_until_it_ends)
    assert worker.wait() == 137
    assert worker.output.count("ignored") > 1
    assert "killed processes that did not end in time: sh (" in worker.output
    assert is_stopped()


def test_a_sigterm_to_the_whole_group_kills_a_program_that_ignores_it(processes: Processes, database: str) -> None:
    """The guard may still have the group's SIGTERM pending when the worker forwards its own."""
    command = ["worker", "--node-id=w", "--stop-timeout=1", "--", "sh", "-c", f"trap '' TERM; echo ready; {FOREVER}"]
    worker = processes.start("setsid", str(BIN / "ampd"), *command, env={"AMP_METADATA_DB_URL": database})
    worker.says("ready")
    [guard] = psutil.Process(worker.pid).children()
    guard.suspend()
    os.killpg(worker.pid, signal.SIGTERM)
    time.sleep(0.5)
    guard.resume()
    assert worker.wait() == 137


def test_a_program_gets_the_stop_timeout_to_end(start: Start) -> None:
    worker = start("sh", "-c", f"trap 'sleep 1.5; echo done; exit 7' TERM; echo ready; {FOREVER}")
    worker.says("ready")
    assert worker.stop() == 7
    assert "done" in worker.output


def test_a_suspended_program_receives_sigterm(start: Start, tmp_path: Path) -> None:
    worker = start("sh", "-c", "echo $$ >pids; " + READY_THEN + "kill -STOP $$; " + FOREVER)
    worker.says("ready")
    [program] = pids_in(tmp_path / "pids", 1)
    # Otherwise the program would get the SIGCONT that follows SIGTERM, and then suspend itself.
    eventually(lambda: psutil.Process(program).status() == psutil.STATUS_STOPPED)
    assert worker.stop() == 0


def test_descendants_that_outlive_the_program_are_ended(
    start: Start, tmp_path: Path, is_stopped: Callable[[], bool]
) -> None:
    """One process in a session of its own ends on SIGTERM; the other has to be killed."""
    polite = f"trap 'echo polite; exit' TERM; echo $$ >>pids; {FOREVER}"
    deaf = f"trap '' TERM; echo $$ >>pids; {FOREVER}"
    wait = "while [ $(wc -l <pids) -lt 2 ]; do sleep 0.05; done"
    (tmp_path / "pids").touch()
    script = f'setsid sh -c "$1" & (sh -c "$2" &) & {wait}; exit 5'
    worker = start("sh", "-c", script, "sh", polite, deaf, stop_timeout=5)
    assert worker.wait() == 5
    assert "polite" in worker.output
    assert "left processes behind; ending them: " in worker.output
    assert worker.output.count("killed processes that did not end in time") == 1
    assert not alive(*pids_in(tmp_path / "pids", 2))
    assert is_stopped()


def test_suspended_descendants_that_outlive_the_program_are_ended(start: Start) -> None:
    suspended = f"trap 'echo polite; exit' TERM; kill -STOP $$; {FOREVER}"
    wait = 'until grep -q "State:.T" /proc/$!/status; do sleep 0.05; done'
    worker = start("sh", "-c", f'sh -c "$1" & {wait}; exit 5', "sh", suspended)
    assert worker.wait() == 5
    assert "polite" in worker.output


def test_a_signal_after_the_end_of_the_program_is_not_forwarded(start: Start, tmp_path: Path) -> None:
    deaf = f"trap '' TERM; echo $$ >pids; {FOREVER}"
    wait = "while [ ! -s pids ]; do sleep 0.05; done"
    worker = start("sh", "-c", f'sh -c "$1" & {wait}; exit 5', "sh", deaf, stop_timeout=3)
    worker.says("left processes behind")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 5
    assert not alive(*pids_in(tmp_path / "pids", 1))


def test_a_shell_that_dies_of_sigterm_does_not_leave_its_program_alone(start: Start, tmp_path: Path) -> None:
    inner = f"trap 'echo ended well; exit' TERM; echo $$ >pids; {FOREVER}"
    worker = start("sh", "-c", 'sh -c "$1"; echo never', "sh", inner)
    pids = pids_in(tmp_path / "pids", 1)
    assert worker.stop() == 143
    assert "ended well" in worker.output
    assert "never" not in worker.output
    assert not alive(*pids)


def test_zombies_are_reaped_while_the_program_runs(start: Start, tmp_path: Path) -> None:
    orphans = "for i in 1 2 3 4 5; do (sh -c 'echo $$ >>pids' &); done; "
    worker = start("sh", "-c", orphans + READY_THEN + FOREVER)
    worker.says("ready")
    pids = pids_in(tmp_path / "pids", 5)
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert worker.stop() == 0


NESTED = f"echo $$ >>pids; sh -c 'trap \"\" TERM HUP INT; echo $$ >>pids; {FOREVER}'; true"


def test_a_worker_that_is_killed_takes_the_program_with_it(start: Start, tmp_path: Path) -> None:
    """The worker's descendants end as well: an extraction may be the child of a shell."""
    worker = start("sh", "-c", NESTED)
    pids = pids_in(tmp_path / "pids", 2)
    assert alive(*pids) == pids
    family = [process.pid for process in worker.descendants()]
    worker.signal(signal.SIGKILL)
    worker.wait()
    eventually(lambda: not alive(*pids, *family))


def test_a_worker_that_is_killed_by_name_takes_the_program_with_it(start: Start, tmp_path: Path) -> None:
    """As `pkill -9 ampd`, `pkill -9 -f "ampd worker"` or `pkill -9 -f "w --stop"` do: the guard has another name."""
    worker = start("sh", "-c", NESTED)
    pids = pids_in(tmp_path / "pids", 2)
    family = [psutil.Process(worker.pid), *worker.descendants()]
    [guard] = psutil.Process(worker.pid).children()
    assert guard.name().startswith("amp-guard of pi")
    assert command_lines(guard.pid).strip() == f"amp-guard of pid {worker.pid}"
    named = []
    for process in family:
        with suppress(psutil.NoSuchProcess, OSError):  # a `sleep` of the program has ended
            if "ampd" in process.name() or "ampd" in command_lines(process.pid):
                named.append(process)
    assert [process.pid for process in named] == [worker.pid]
    for process in named:
        process.kill()
    worker.wait()
    eventually(lambda: not alive(*pids, *(process.pid for process in family)))


def test_a_guard_whose_worker_died_at_once_ends(processes: Processes) -> None:
    """The guard had not yet requested a signal from the kernel: it only sees its parent change."""
    guard = "import os, signal, sys; from amp_workers.worker.reaper import HANDLED, Guard; orders, report = os.pipe()"
    guard += "; mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)"
    guard += "; sys.exit(Guard(['true'], {}, 1, 2**22 + 1, orders, report, mask).run().exit_code)"
    assert processes.start(sys.executable, "-c", guard).wait() == 137


def test_a_guard_that_is_killed_takes_the_program_with_it(
    start: Start, tmp_path: Path, is_stopped: Callable[[], bool]
) -> None:
    worker = start("sh", "-c", NESTED)
    pids = pids_in(tmp_path / "pids", 2)
    [guard] = psutil.Process(worker.pid).children()
    guard.kill()
    assert worker.wait() == 137
    assert "the guard ended with exit code 137 before the program's processes" in worker.output
    assert not alive(*pids)
    assert is_stopped()


def test_a_guard_that_is_killed_together_with_its_worker_takes_the_program_with_it(
    start: Start, tmp_path: Path
) -> None:
    """Neither of them can end the program: the worker is frozen, so that it does not see the guard's end."""
    worker = start("sh", "-c", "echo $$ >pids; exec sleep 60")
    pids = pids_in(tmp_path / "pids", 1)
    [guard] = psutil.Process(worker.pid).children()
    worker.freeze()
    guard.kill()
    worker.signal(signal.SIGKILL)
    worker.wait()
    eventually(lambda: not alive(*pids))


def test_a_signal_for_a_killed_guard_is_not_forwarded_for_ever(start: Start) -> None:
    """The worker handles SIGUSR1 before SIGCHLD. Forwarding it to the dead guard causes SIGPIPE, also handled before
    SIGCHLD.
    """
    worker = start("sh", "-c", f"echo ready; {FOREVER}")
    worker.says("ready")
    [guard] = psutil.Process(worker.pid).children()
    worker.freeze()
    worker.signal(signal.SIGUSR1)
    guard.kill()
    eventually(lambda: guard.status() == psutil.STATUS_ZOMBIE)
    worker.signal(signal.SIGCONT)
    assert worker.wait() == 137


def test_a_worker_that_was_taken_over_stops_its_program(start: Start, sql: Sql) -> None:
    worker = start("sh", "-c", f"trap 'echo asked; exit 0' TERM; echo ready; {FOREVER}")
    worker.says("ready")
    take_over(sql)
    assert worker.wait() == 3
    assert "asked" in worker.output
    assert "node id 'w' was taken over by another worker process" in worker.output


def test_a_stop_that_cannot_be_recorded_does_not_change_the_exit_code(start: Start, sql: Sql) -> None:
    worker = start("sh", "-c", f"trap 'exit 9' TERM; echo ready; {FOREVER}")
    worker.says("ready")
    sql("ALTER TABLE workers RENAME TO gone")
    worker.says("cannot send heartbeats")
    assert worker.stop() == 9
    assert "could not be recorded" in worker.output


class Terminal:
    """A program with its own terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)  # noqa: S606 - a terminal has no Popen
        os.set_blocking(self._master, False)
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def shows(self, text: str) -> str:
        """Wait for a text; return the output between the text of the previous call and this one."""

        def look() -> bool:
            with suppress(OSError):  # nothing more to read, now or at all
                self._shown += os.read(self._master, 65536).decode(errors="replace")
            assert text in self._shown, self._shown
            return True

        eventually(look)
        before, _, self._shown = self._shown.partition(text)
        return before

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDWR)

    def end(self) -> None:
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os.waitpid(self.pid, 0)
        os.close(self._master)


@pytest.fixture
def terminal(database: str) -> Iterator[Callable[..., Terminal]]:
    """Start a command in a terminal: `terminal("sh")`."""
    started: list[Terminal] = []

    def start_terminal(*command: str) -> Terminal:
        environment = clean_environment() | {"AMP_METADATA_DB_URL": database, "PS1": "prompt> "}
        started.append(Terminal(list(command), environment))
        return started[-1]

    yield start_terminal
    for each in started:
        each.end()


def test_ctrl_c_reaches_the_program_once(terminal: Callable[..., Terminal]) -> None:
    program = [sys.executable, "-c", TELL_SIGNALS, "INT TERM"]
    screen = terminal("ampd", "worker", "--node-id=w", "--", *program)
    screen.shows("ready")
    screen.type("\x03")
    screen.shows("got SIGINT")
    time.sleep(0.5)
    os.kill(screen.pid, signal.SIGTERM)
    assert "got SIGINT" not in screen.shows("got SIGTERM")


def test_ctrl_c_reaches_a_program_that_left_the_terminals_group(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("ampd", "worker", "--node-id=w", "--", "setsid", sys.executable, "-c", TELL_SIGNALS, "INT TERM")
    screen.shows("ready")
    screen.type("\x03")
    screen.shows("got SIGINT")


def test_a_hangup_reaches_the_program_of_a_worker_that_leads_the_session(
    terminal: Callable[..., Terminal], tmp_path: Path, is_stopped: Callable[[], bool]
) -> None:
    """As after `ssh -t HOST ampd worker …`, or in a window of tmux that runs only the worker."""
    script = f"trap 'touch \"$0\"; exit 3' HUP; echo ready; {FOREVER}"
    screen = terminal("ampd", "worker", "--node-id=w", "--", "sh", "-c", script, str(tmp_path / "hung up"))
    screen.shows("ready")
    screen.hang_up()
    eventually((tmp_path / "hung up").exists)
    eventually(is_stopped)


def test_ctrl_z_suspends_the_job_and_fg_goes_on(terminal: Callable[..., Terminal], sql: Sql) -> None:
    screen = terminal("bash", "--norc", "--noprofile", "--noediting", "-i")
    screen.shows("prompt> ")
    screen.type(f"ampd worker --node-id w -- sh -c 'echo $((1+1))nd; {FOREVER}'\n")
    screen.shows("2nd")
    screen.type("\x1a")
    screen.shows("Stopped")
    screen.shows("prompt> ")
    shell = psutil.Process(screen.pid)
    assert [child.status() for child in shell.children()] == [psutil.STATUS_STOPPED]
    screen.type("fg\n")
    last = sql("SELECT heartbeat_at FROM workers")
    eventually(lambda: sql("SELECT heartbeat_at FROM workers") != last)
    screen.type("\x03")
    screen.shows("prompt> ")
    screen.type("echo code $?\n")
    screen.shows("code 130")
