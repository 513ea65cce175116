"""The Admin API: the fleet over HTTP, for operators and their scripts."""

from amp_workers.admin.app import create_app

__all__ = ["create_app"]
