"""The rule for node ids, which is part of the contract of the `workers` table."""

import re

from amp_workers.errors import AmpError

MAX_LENGTH = 255

# \w would match letters outside ASCII, and $ would match before a trailing newline: hence [a-zA-Z] and fullmatch.
_PATTERN = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-.]*")


class InvalidNodeId(AmpError, ValueError):
    """An invalid node id; the message names it and what is wrong with it."""


def check_node_id(node_id: str) -> str:
    """Return a valid node id as it is.

    Raises:
        InvalidNodeId: it is empty, longer than 255 characters, or not of the documented form.
    """
    if not node_id:
        raise InvalidNodeId("the node id is empty")
    if node_id.startswith("\ufeff"):
        raise InvalidNodeId("the node id begins with a UTF-8 byte order mark (BOM): remove it")
    if len(node_id) > MAX_LENGTH:
        raise InvalidNodeId(
            f"node id '{_shown(node_id[:20])}…' has {len(node_id)} characters, at most {MAX_LENGTH} are allowed"
        )
    if not _PATTERN.fullmatch(node_id):
        raise InvalidNodeId(
            f"node id '{_shown(node_id)}' is not valid: it must begin with an ASCII letter, followed by ASCII letters, "
            "digits, '_', '-' and '.'"
        )
    return node_id


def _shown(text: str) -> str:
    """Escape control characters, so that an error message stays one line."""
    return text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
