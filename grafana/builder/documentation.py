"""The tables of docs/alerts.md, between marks in a page that people write."""

from grafana.builder.alerts import ALERTS, Alert
from grafana.builder.durations import promql
from grafana.builder.recording_rules import RECORDING_RULES

_MARK = "<!-- {} {}: made by python -m grafana.builder -->"


def alerts_page(page: str) -> str:
    """Return the page with its tables renewed. Raises ValueError if a mark is missing."""
    return _between(_between(page, "alerts", _alerts()), "recording rules", _recording_rules())


def _between(page: str, name: str, table: str) -> str:
    begin, end = _MARK.format("begin", name), _MARK.format("end", name)
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"docs/alerts.md: no marks «{begin}» and «{end}»")
    return f"{before}{begin}\n{table}{end}{after}"


def _alerts() -> str:
    rows = [
        "| alert | severity | scope | it fires when | for |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| [{alert.name}](runbooks/{alert.name}.md) | {alert.severity} | {alert.scope} | {_when(alert)} "
            f"| {promql(alert.pending) if alert.pending else 'at once'} |"
            for alert in ALERTS
        ),
    ]
    return "\n".join(rows) + "\n"


def _when(alert: Alert) -> str:
    query = " ".join(alert.query.split()).replace("|", "\\|")
    mark = " ¹" if alert.needs_all_workers else ""
    return f"`{query}` {alert.condition}{mark}"


def _recording_rules() -> str:
    rows = ["| series | is |", "| --- | --- |", *(f"| `{rule.record}` | {rule.help} |" for rule in RECORDING_RULES)]
    return "\n".join(rows) + "\n"
