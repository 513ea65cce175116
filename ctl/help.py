"""`--help` whose lines break between words only, and whose summaries are whole."""

import click

# textwrap breaks words at hyphens, but not at this one, which looks the same.
_UNBROKEN = "\u2011"


class WholeWords(click.HelpFormatter):
    """Keeps `--client-cert` and `--output` on one line."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _UNBROKEN))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args.replace("-", _UNBROKEN), prefix)

    def write_dl(self, rows: list[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:  # type: ignore[override]
        super().write_dl([(first, second.replace("-", _UNBROKEN)) for first, second in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(_UNBROKEN, "-")
