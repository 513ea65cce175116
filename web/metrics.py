"""The registry of a server's own metrics."""

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from amp_workers.web.policy import Policy


def server_registry(policy: Policy | None = None) -> CollectorRegistry:
    """Return a registry with the families of the process, of Python and of a policy, to which a server adds its own.

    policy: one without files by default.
    """
    # A further series of each counter and histogram, which no dashboard uses.
    disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus-client types all but a few functions
    registry, shown = CollectorRegistry(auto_describe=True), policy or Policy()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    files = "of the web configuration file, the files that it names and the token file"
    Gauge(
        "amp_web_config_last_reload_successful", f"Whether the last read {files} succeeded.", registry=registry
    ).set_function(lambda: float(shown.last_reload_successful))
    Gauge(
        "amp_web_config_last_reload_success_timestamp_seconds",
        f"Unix time of the last successful read {files}.",
        registry=registry,
    ).set_function(lambda: shown.last_reload_success)
    return registry
