"""Write the files, and print which changed."""

import click

from grafana.builder.files import ROOT, files
from grafana.builder.links import Links


@click.command()
@click.option("--grafana-url", default=Links.grafana_url, show_default=True, help="Where alerts find the dashboards.")
@click.option(
    "--runbook-url",
    help="Where alerts find their runbooks, with {alert} for the alert's name. "
    "[default: the page that Grafana serves, GRAFANA_URL/public/runbooks/index.html#{alert}]",
)
def main(grafana_url: str, runbook_url: str | None) -> None:
    """Write the rules, the dashboards and the generated documentation."""
    if runbook_url is not None and "{alert}" not in runbook_url:
        raise click.BadParameter("no {alert} in it, for the alert's name", param_hint="--runbook-url")
    for path, text in files(Links(grafana_url.rstrip("/"), runbook_url)).items():
        target = ROOT / path
        if target.is_file() and target.read_text() == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        click.echo(f"wrote {path}")


main(prog_name="python -m grafana.builder")
