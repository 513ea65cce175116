"""Node ids in paths. An invalid one is refused as such, and not reported as a path that does not exist."""

from werkzeug.routing import BaseConverter


class AnythingConverter(BaseConverter):
    """Matches any text: slashes (the server decodes %2F), line feeds, or nothing."""

    part_isolating = False
    regex = r"[\s\S]*?"


class NoJobsConverter(AnythingConverter):
    """Matches any text but that of a worker's jobs, which have a route of their own."""

    regex = rf"(?![^/]+/jobs\Z){AnythingConverter.regex}"


CONVERTERS = {"anything": AnythingConverter, "no_jobs": NoJobsConverter}
