"""The format of an exposition, of those that a client accepts."""

from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_VERSIONS = frozenset({"0.0.1", "0.0.4", "1.0.0"})
"""Those that Prometheus asks for. prometheus-client compares whatever a client sends with numbers, raises TypeError
where it is none, and sends it back in `Content-Type`."""


def exposition_format(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return what writes an exposition, and its content type, for the value of an `Accept` header.

    What the client would take in a version that nobody knows is passed over, as if it were not there.
    """
    return choose_encoder(",".join(kind for kind in accept.split(",") if _is_known(kind)))


def _is_known(kind: str) -> bool:
    parameters = [parameter.strip().partition("=") for parameter in kind.split(";")[1:]]
    return all(value in _VERSIONS for name, _, value in parameters if name == "version")
