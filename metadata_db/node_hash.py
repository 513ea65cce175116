"""Node ids as hashes. To compare 100,000 of them as texts takes PostgreSQL longer than to read all jobs."""

import secrets

from sqlalchemy import BigInteger, ColumnElement, func, literal, text

# It is random and stays in the process: no client can choose a node id that has the hash of another one.
_SEED = secrets.randbits(63)


def node_hash(node_id: ColumnElement[str]) -> ColumnElement[int]:
    """The hash of a node id, in 8 bytes; that of an empty text for a null."""
    return func.hashtextextended(func.coalesce(node_id, text("''")), literal(_SEED, BigInteger))
