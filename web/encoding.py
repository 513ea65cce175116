"""How a body is encoded: gzip, and the formats of an exposition."""

from collections.abc import Callable, Iterable, Iterator

from isal import isal_zlib
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_VERSIONS = frozenset({"0.0.1", "0.0.4", "1.0.0"})
"""The versions that Prometheus requests. prometheus-client compares any text with numbers, raises TypeError where it is
none, and returns it in `Content-Type`."""


def compress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return the pieces as one gzip stream, piece by piece.

    By ISA-L: at its level 1 an exposition of 63 MB takes 0.09 s; zlib's level 1 takes 0.34 s, and the result is larger.
    """
    packer = isal_zlib.compressobj(1, wbits=isal_zlib.MAX_WBITS | 16)  # 16 asks for gzip's header and trailer
    yield from filter(None, map(packer.compress, pieces))
    yield packer.flush()


def exposition_format(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return what encodes an exposition, and its content type, for the value of an `Accept` header.

    A kind with an unknown version is ignored.
    """
    return choose_encoder(",".join(kind for kind in accept.split(",") if _is_known(kind)))


def _is_known(kind: str) -> bool:
    parameters = [parameter.strip().partition("=") for parameter in kind.split(";")[1:]]
    return all(value in _VERSIONS for name, _, value in parameters if name == "version")
