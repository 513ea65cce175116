"""The placeholders of an alert's texts: `{node_id}` is a label, `{value:duration}` the value in a form."""

import re
from collections.abc import Callable

Fill = Callable[[str], str]
"""One of the two functions below."""

_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_FORMS = {"duration": "humanizeDuration", "percentage": "humanizePercentage", "count": 'printf "%.0f"'}


def prometheus(text: str) -> str:
    """Return a text as a template of Prometheus."""
    return _fill(text, lambda form: f"{{{{ $value | {form} }}}}")


def grafana(text: str) -> str:
    """Return a text as a template of Grafana, in whose rules the value is that of query A."""
    return _fill(text, lambda form: f"{{{{ $values.A.Value | {form} }}}}")


def _fill(text: str, value: Callable[[str], str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, form = match.groups()
        return value(_FORMS[form]) if name == "value" else f"{{{{ $labels.{name} }}}}"

    return _PLACEHOLDER.sub(replace, text)
