"""The registry that a server's own metrics are in."""

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)


def server_registry() -> CollectorRegistry:
    """Return a registry with the families of the process and of Python, to which a server adds its own."""
    # A series more for each counter and histogram, which no dashboard asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus-client types all but a few functions
    registry = CollectorRegistry(auto_describe=True)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
