"""Whether a server answers, over each of the ways in which it may serve."""

from pathlib import Path

import psutil
import pytest

from amp_workers.web import Answers, ListenAddress
from tests.processes import Processes, eventually, frozen
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, TLS, Served, write

FILES = {
    "HTTP": "",
    "TLS": TLS,
    "client certificates": CLIENTS,
    "client names": CLIENTS + "  client_allowed_sans:\n    - prometheus.example.org\n",
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_an_answer_is_one_whatever_is_spoken(
    processes: Processes, tmp_path: Path, authority: Authority, file: str
) -> None:
    authority.server()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", file))
    answers = Answers(ListenAddress("127.0.0.1", served.port))
    assert answers(5)
    serving = psutil.Process(served.serving())
    # The kernel still takes connections for it.
    with frozen(serving.pid):
        assert not answers(0.3)
    eventually(lambda: answers(5))
    # Nor is the one that is left an answer: it still listens, for a process to come.
    with frozen(served.process.pid):
        serving.kill()
        assert not answers(0.3)
    eventually(lambda: answers(5), 20)
    assert served.process.stop() == 0
    assert not answers(5)
