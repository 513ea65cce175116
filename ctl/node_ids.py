"""Node ids on the command line: their syntax, their completion, and suggestions for unknown ones."""

import re
import time
from typing import TYPE_CHECKING, Any

import click

from amp_workers.ctl.client import MOST_A_PAGE, AdminApi
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.options import admin_api

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# The API's rule, kept here as well, to refuse an invalid node id without a round trip.
NODE_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-.]{0,254}")

_GLOB = re.compile(r"[a-zA-Z0-9_\-.*?]{1,255}")

COMPLETION_SECONDS = 1.0
"""The longest time that completion waits for the API."""

COMPLETED_AT_MOST = 200

SUGGESTION_SECONDS = 2.0
"""The search for a similar node id reads no page after this time."""

_KNOWN = "amp_workers.ctl.node_ids"


class NodeIdType(click.ParamType[str]):
    """A node id."""

    name = "node_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not NODE_ID.fullmatch(value):
            self.fail(
                f"invalid node id {value!r}: it must begin with an ASCII letter, followed by ASCII letters, digits, "
                "'_', '-' and '.', 255 characters at most.",
                param,
                ctx,
            )
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - Click's signature
        incomplete: str,
    ) -> "list[CompletionItem]":
        """Return the node ids that the API has; none if it does not respond."""
        from click.shell_completion import CompletionItem

        if incomplete and not NODE_ID.fullmatch(incomplete):
            return []
        try:
            found = _beginning_with(incomplete, admin_api(ctx, COMPLETION_SECONDS))
        except (ApiError, click.UsageError):
            return []
        given = ctx.params.get("node_ids") or ()
        return [CompletionItem(node_id) for node_id in found if node_id not in given]


class GlobType(NodeIdType):
    """A node id, or a glob of node ids."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _GLOB.fullmatch(value):
            self.fail(
                f"invalid node id or glob {value!r}: ASCII letters, digits, '_', '-' and '.', with '*' for any "
                "text and '?' for one character.",
                param,
                ctx,
            )
        return str(value)


def _beginning_with(text: str, api: AdminApi) -> list[str]:
    # In this order, the node ids that begin with a text follow it: one page is enough.
    workers = api.workers(limit=COMPLETED_AT_MOST, after=text or None)["workers"]
    found = [worker["node_id"] for worker in workers if worker["node_id"].startswith(text)]
    # The shell inserts them as they are: other characters must not get into the command line.
    found = [node_id for node_id in found if NODE_ID.fullmatch(node_id)]
    try:
        return [text, *found] if text and api.worker(text) else found
    except ApiError:  # no worker has exactly this node id
        return found


def unknown_worker(context: click.Context, node_id: str, error: ApiError) -> ApiError:
    """Return the API's error about one worker, with the most similar node id that exists, if any."""
    from amp_workers.ctl.suggestions import did_you_mean

    try:
        if _KNOWN not in context.meta:  # once per command
            context.meta[_KNOWN] = _all_node_ids(admin_api(context, SUGGESTION_SECONDS))
    except ApiError:  # unavailable meanwhile: the first error is reported
        return error
    hint = did_you_mean(node_id, context.meta[_KNOWN])
    return ApiError(f"{error.message}.{hint}", code=error.code) if hint else error


def _all_node_ids(api: AdminApi) -> list[str]:
    """Return all node ids; none where they are too many to read in time, as the similar one could be missing."""
    ends = time.monotonic() + SUGGESTION_SECONDS
    found: list[str] = []
    after = None
    while time.monotonic() < ends:
        page = api.workers(limit=MOST_A_PAGE, after=after)
        found += [worker["node_id"] for worker in page["workers"]]
        after = page.get("next")
        if after is None:
            return found
    return []
