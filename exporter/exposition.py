"""One response of `/metrics`: which format, which families, and the bytes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from amp_workers.exporter.worker_families import Texts, header
from amp_workers.web import exposition_format

_EOF = b"# EOF\n"


@dataclass(frozen=True)
class Exposition:
    """What is sent, and as what."""

    pieces: Sequence[bytes]
    content_type: str


def expose(
    fleet: Collector, workers: Texts, own: CollectorRegistry, accept: str, names: Collection[str] | None = None
) -> Exposition:
    """Return the exposition of a fleet and of the exporter's own families, in the format that the client accepts.

    names: only the families or samples of these names, as prometheus-client's handler does for `name[]`.
    """
    encode, content_type = exposition_format(accept)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(fleet)
    pieces = [encode(_restricted(each, names)).removesuffix(_EOF) for each in (registry, own)]
    for family, texts in workers.items():
        if texts and (names is None or family.name in names):
            pieces += (header(family), *texts)
    if content_type.startswith("application/openmetrics-text"):
        pieces.append(_EOF)
    return Exposition(pieces, content_type)


def _restricted(registry: CollectorRegistry, names: Collection[str] | None) -> Collector:
    return registry if names is None else registry.restricted_registry(names)
