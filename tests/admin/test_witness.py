"""The relay that checks responses fails the test if a response is not described."""

import pytest

from tests.admin.witness import witness
from tests.ctl.contract_api import ContractApi, serving
from tests.processes import get


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ((202, {}), "GET /workers answers 202, which is not described"),
        ((200, {"workers": []}), "GET /workers answers 200 without ETag"),
    ],
)
def test_what_is_not_described_fails(says: tuple[int, object], problem: str) -> None:
    with serving(ContractApi([], says=says)) as api:
        port = int(api.url.rpartition(":")[2])
        with pytest.raises(AssertionError, match=problem), witness(port) as seen:
            get(f"http://127.0.0.1:{seen}/workers")
