"""The exposition format that a client gets for each Accept header."""

import pytest

from amp_workers.web import exposition_format

TEXT = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        (PROMETHEUS, OPENMETRICS + "; escaping=allow-utf-8"),
        (PROMETHEUS.replace("openmetrics", "other"), TEXT_1),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS + "; escaping=underscores"),
        ("application/openmetrics-text; version=abc, text/plain; version=1.0.0; escaping=allow-utf-8", TEXT_1),
    ],
)
def test_the_first_known_format_is_used(accept: str, content_type: str) -> None:
    assert exposition_format(accept)[1] == content_type


NO_VERSIONS = ["abc", "zz", "1.0.0 foo", "1.0.0\tX-Injected: yes", "9" * 5000, "1.x", "-1", "", "\u0661.0.0", "99.0.0"]


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
@pytest.mark.parametrize("version", NO_VERSIONS)
def test_an_unknown_version_is_skipped(kind: str, version: str) -> None:
    assert exposition_format(f"{kind}; version={version}")[1] == TEXT
    assert exposition_format(f"{kind}; version=1.0.0; version={version}")[1] == TEXT
