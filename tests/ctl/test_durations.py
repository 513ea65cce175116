"""Durations as people write them."""

import pytest

from amp_workers.ctl.durations import InvalidDuration, duration_text, parse_duration, text_over


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("5", 5),
        ("0.25", 0.25),
        ("30d", 2_592_000),
        ("2h", 7_200),
        ("1m30s", 90),
        ("0.5s", 0.5),
        ("1d2h3m4.5s", 93_784.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-5", "5.", "1e3", "5 s", "-5s", "5S", "1s1m", "5s5s", "1.5h", "٣s", "5s\n", "9" * 400 + "s"]
)
def test_an_invalid_duration_is_reported_with_examples(text: str) -> None:
    with pytest.raises(InvalidDuration, match=r"invalid duration .* \(examples: 5s, 1m30s, 2h, 30d\)"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3.2, "-3s"),
        (-0.5, "0s"),
        (-3_605, "-1h"),
        (4.99, "4s"),
        (60, "1m"),
        (90, "1m30s"),
        (3_600, "1h"),
        (3_605, "1h"),
        (93_784, "1d2h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "limit", "text"),
    [
        (0.4, 0, "0.400s"),
        (0.0004, 0, "0.000400s"),
        (5.2, 5, "5.200s"),
        (7, 5, "7s"),
        (86_405.25, 86_400, "1d5s"),
        (2.5e11, 5, "2893518d12h"),
        (864_005.5, 864_000, "10d5s"),
        (864_000.5, 864_000, "10d0.500s"),
    ],
)
def test_a_duration_over_a_limit_is_shown_as_over_it(seconds: float, limit: float, text: str) -> None:
    assert text_over(seconds, limit) == text
