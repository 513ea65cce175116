"""The placeholders of an alert's texts: `{node_id}` is a label, `{value:duration}` the value in a form.

`{most_stranded}` is a sentence about the worker with the most stranded jobs. Only Prometheus can look it up: a label
`node_id` would make another alert of it whenever the worker changes.
"""

import re
from collections.abc import Callable

Fill = Callable[[str], str]
"""One of the two functions below."""

_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_FORMS = {"duration": "humanizeDuration", "percentage": "humanizePercentage", "count": 'printf "%.0f"'}


_MOST_STRANDED = (
    '{{ with printf `topk(1, max by (node_id) (amp_jobs_stranded_by_worker{job="%s"}))` $labels.job | query }}'
    ' The worker with the most is {{ . | first | label "node_id" }}, with {{ . | first | value }}.{{ end }}'
)


def prometheus(text: str) -> str:
    """Return a text as a template of Prometheus."""
    text = text.replace("{most_stranded}", _MOST_STRANDED)
    return _fill(text, lambda form: f"{{{{ $value | {form} }}}}")


def grafana(text: str) -> str:
    """Return a text as a template of Grafana, in whose rules the value is that of query A."""
    text = text.replace("{most_stranded}", " The fleet dashboard shows the workers.")
    return _fill(text, lambda form: f"{{{{ $values.A.Value | {form} }}}}")


def _fill(text: str, value: Callable[[str], str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, form = match.groups()
        return value(_FORMS[form]) if name == "value" else f"{{{{ $labels.{name} }}}}"

    return _PLACEHOLDER.sub(replace, text)
