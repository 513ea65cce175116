"""The Admin API: what the fleet's operators and their scripts ask over HTTP."""

from amp_workers.admin.app import create_app

__all__ = ["create_app"]
