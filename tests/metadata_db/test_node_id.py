import pytest

from amp_workers.metadata_db import InvalidNodeId, check_node_id
from tests.node_ids import INVALID, VALID


@pytest.mark.parametrize("node_id", VALID)
def test_a_valid_one_is_returned_as_it_is(node_id: str) -> None:
    assert check_node_id(node_id) == node_id


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_one_is_refused_in_one_line(node_id: str) -> None:
    with pytest.raises(InvalidNodeId) as refused:
        check_node_id(node_id)
    assert "\n" not in str(refused.value)
