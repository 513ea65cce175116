"""A real Alertmanager with the configuration that the project ships."""

from pathlib import Path

import yaml

from tests.processes import ROOT, Processes, eventually, free_port, get, tool


def start_alertmanager(processes: Processes, directory: Path, webhook: int) -> int:
    """Start Alertmanager and return its port. The receivers for operators call a webhook on the port `webhook`."""
    configuration = yaml.safe_load((ROOT / "grafana" / "alertmanager.yml").read_text())
    for receiver in configuration["receivers"]:
        if receiver["name"] == "watchdog":
            continue
        receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{webhook}/", "send_resolved": True}]
    file = directory / "alertmanager.yml"
    file.write_text(yaml.safe_dump(configuration))
    port = free_port()
    processes.start(
        tool("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    )
    eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"), 60)
    return port
