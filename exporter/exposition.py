"""One response of `/metrics`: which format, which families, and the bytes."""

import gzip
from collections.abc import Collection
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter.fleet_families import FleetCollector
from exporter.worker_families import render
from metadata_db import Fleet

_EOF = b"# EOF\n"


@dataclass(frozen=True)
class Exposition:
    """What is sent, and as what."""

    body: bytes
    content_type: str


def expose(
    fleet: Fleet | None, own: CollectorRegistry, accept: str, names: Collection[str] | None = None
) -> Exposition:
    """Return the exposition of a fleet and of the exporter's own families, in the format that the client accepts.

    names: only the families or samples of these names, as prometheus-client's handler does for `name[]`.
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(FleetCollector(fleet))
    parts = [encode(_restricted(each, names)).removesuffix(_EOF) for each in (registry, own)]
    if fleet is not None:
        parts.append(render(fleet.members, names).encode())
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_EOF)
    return Exposition(b"".join(parts), content_type)


def _restricted(registry: CollectorRegistry, names: Collection[str] | None) -> Collector:
    return registry if names is None else registry.restricted_registry(names)


def compress(body: bytes) -> bytes:
    """Return the body as gzip, at the level that costs least: it is read once, and by a neighbour."""
    return gzip.compress(body, compresslevel=1, mtime=0)
