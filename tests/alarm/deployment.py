"""A deployment in which each part is a process that a test can kill, freeze and disconnect."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.alarm.alertmanager import start_alertmanager
from tests.alarm.webhook import Webhook, listening
from tests.clusters import own_postgres
from tests.processes import ROOT, Process, Processes, eventually, free_port, get
from tests.prometheus import Prometheus
from tests.relay import Relay, socket_of

INTERVAL = 5
"""The default scrape interval in seconds. The rules are evaluated every 2.5 s at any scrape interval."""

WORKERS = [f"worker-{number:02}" for number in range(1, 17)]
CUT_OFF = WORKERS[-1]
"""The worker whose connection goes through the relay."""

WITH_PROGRAM = WORKERS[8:11]
"""The workers that run a program, which promises to report progress every 10 s."""

_PROGRAM = ("--watchdog", "10", "--", sys.executable, str(Path(__file__).with_name("program.py")))


class Deployment:
    def __init__(
        self,
        directory: Path,
        processes: Processes,
        server: EmbeddedPostgres,
        webhook: Webhook,
        interval: int,
        node_ids: Sequence[str],
    ) -> None:
        self.server = server
        self.webhook = webhook
        self.interval = interval
        self.relay = Relay(socket_of(server))
        self._processes = processes
        self.exporter_port = free_port()
        self.versions = dict.fromkeys(node_ids, "v1")
        self.has_jobs = False
        """Whether the metadata DB has the tables of Amp's jobs."""

        self.workers: dict[str, Process] = {}
        for node_id in node_ids:
            self.start_worker(node_id)
        self.start_exporter()
        alertmanager = start_alertmanager(processes, directory, webhook.port)
        self.prometheus = Prometheus(
            processes,
            directory / "prometheus",
            {"amp": self.exporter_port},
            rules=[ROOT / "grafana" / "rules" / "amp.yml"],
            alertmanager=alertmanager,
            interval=interval,
        )

    def start_worker(self, node_id: str) -> None:
        url = self._far_url if node_id == CUT_OFF else self.server.url
        environment = {"AMP_BUILD_VERSION": self.versions[node_id]}
        program = _PROGRAM if node_id in WITH_PROGRAM else ()
        self.workers[node_id] = self._processes.ampd(
            # Some faults need the tables of Amp's jobs. With them, the database counts as Amp's own.
            *("worker", "--node-id", node_id, "--join-amp-fleet", *program),
            database=url,
            env=environment,
        )

    def program(self, node_id: str) -> psutil.Process:
        """Return the program that a worker runs."""
        (found,) = [each for each in self.workers[node_id].descendants() if "program.py" in " ".join(each.cmdline())]
        return found

    @property
    def _far_url(self) -> str:
        """The URL of the metadata DB behind the relay."""
        return f"postgresql://postgres@127.0.0.1:{self.relay.port}/postgres"

    def start_exporter(self) -> None:
        address = f"127.0.0.1:{self.exporter_port}"
        self.exporter = self._processes.ampd("exporter", "--web.listen-address", address, database=self.server.url)
        eventually(lambda: get(f"http://{address}/-/healthy"), 180)

    def restart_prometheus(self) -> None:
        self.prometheus.process.stop(30)
        self.prometheus.start()

    def await_rest(self) -> None:
        """Wait until all workers are active, the fleet is stable and no alert fires."""

        def rests() -> bool:
            assert self.prometheus.query('amp_workers{state="active"}') == {
                frozenset({("state", "active")}): len(self.workers)
            }
            assert self.prometheus.query("job:amp_fleet_settled:max")
            assert {alert["labels"]["alertname"] for alert in self.prometheus.alerts()} <= {"AmpWatchdog"}
            return True

        eventually(rests, 240 + 4 * self.interval)
        time.sleep(2 * self.interval)


@contextmanager
def deployed(
    directory: Path, open_directory: Path, interval: int = INTERVAL, node_ids: Sequence[str] = WORKERS
) -> Iterator[Deployment]:
    """Start a deployment and wait until it is at rest, up to a minute. Any account can enter `open_directory`."""
    processes = Processes(directory, forks_ampd=True)
    with own_postgres(open_directory / "alarm") as server, listening(Webhook(free_port())) as webhook:
        try:
            made = Deployment(directory, processes, server, webhook, interval, node_ids)
            try:
                yield made
            finally:
                made.relay.close()
        finally:
            processes.end()


def kill(process: Process) -> None:
    """SIGKILL a process and its descendants."""
    for each in [*process.descendants(), psutil.Process(process.pid)]:
        each.kill()
    process.popen.wait()


def freeze(process: Process, number: int = signal.SIGSTOP) -> None:
    """SIGSTOP a process and its descendants; SIGCONT resumes them."""
    for each in [*process.descendants(), psutil.Process(process.pid)]:
        each.send_signal(number)
