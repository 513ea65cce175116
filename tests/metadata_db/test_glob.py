"""Globs have the same meaning in SQL and in Python."""

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from sqlalchemy import Text, literal, select

from amp_workers.metadata_db import MetadataDbUrl, Reader, text_matcher
from amp_workers.metadata_db.glob import matches_any
from tests.admin.test_hostile import FIXED

ALPHABET = st.sampled_from("ab*?%_\\.[]|^$\n🚀é")


@pytest.fixture
def reader(database: str) -> Reader:
    return Reader(MetadataDbUrl.parse(database), "a test", connections=1, statement_timeout=20)


@seed(7)
@FIXED
@given(st.lists(st.text(ALPHABET, min_size=1, max_size=8), min_size=1, max_size=3), st.text(ALPHABET, max_size=8))
def test_both_match_the_same_texts(reader: Reader, globs: list[str], text: str) -> None:
    statement = select(matches_any(literal(text, Text), globs))
    in_sql = reader.query(lambda connection: connection.execute(statement).scalar_one(), 20)
    assert bool(text_matcher(globs)(text)) == in_sql


def test_a_glob_with_many_asterisks_takes_no_time() -> None:
    assert not text_matcher(["*a" * 120 + "b"])("a" * 250)
