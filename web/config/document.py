"""YAML as exporter-toolkit reads it: known keys only, each key once, every scalar a text."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import yaml

from amp_workers.web.config.watched import ConfigError

Convert = Callable[[str], Any]
"""Converts a text. Raises ValueError, whose message follows the name of the key."""

Schema = Convert | Sequence[Convert] | Mapping[str, "Schema"]
"""A text, a list of texts, or a mapping."""

ANY_KEY = "*"
"""In a mapping: all its keys, such as the names of users."""

_NULLS = ("~", "null", "Null", "NULL")

_QUOTED = re.compile(r"""'[^']{2,}'|"[^"]{2,}\"""")


def read_document(text: bytes, schema: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the converted values of a document, without the keys whose value is null or "". Raises ConfigError."""
    try:
        document = _Loader(text).get_single_data()
    except RecursionError:
        raise ConfigError("the document is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        # A password that begins with * is an alias, and one that begins with ! a tag.
        problem = _QUOTED.sub("'…'", error.problem or "not YAML")
        raise ConfigError(f"{_line(error.problem_mark)}: {problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError("not YAML") from error
    return dict(_convert(document or {}, schema, ""))


def one_of(values: Mapping[str, Any], refused: Mapping[str, str] | None = None) -> Convert:
    """Convert a text that is one of these. refused: known texts that are not supported, with the reasons."""

    def convert(text: str) -> Any:
        if text not in values:
            raise ValueError(f"{text!r} is " + (refused or {}).get(text, f"not one of {', '.join(values)}"))
        return values[text]

    return convert


def matching(pattern: str, problem: str) -> Convert:
    """Keep a text that matches a regular expression. problem: what is wrong with any other text."""

    def convert(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is {problem}")
        return text

    return convert


class _Loader(yaml.BaseLoader):
    """Loads mappings, lists and texts. Null is an empty text."""

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        return "" if node.style is None and node.value in _NULLS else str(node.value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = True) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            # A colon would end a user's name in the credentials of a request.
            if not isinstance(key, yaml.ScalarNode) or not key.value.isprintable() or ":" in key.value:
                raise ConfigError(f"{_line(key.start_mark)}: a key must be a printable text without a colon")
            if key.value in found:
                raise ConfigError(f"{_line(key.start_mark)}: {key.value} is defined twice")
            found[key.value] = self.construct_object(value, deep)
        return found


def _convert(value: Any, schema: Schema, name: str) -> Any:
    if isinstance(schema, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(f"{name or 'the document'} must be a mapping of keys to values")
        found = {}
        for key, each in value.items():
            path, known = f"{name}.{key}" if name else key, schema.get(key, schema.get(ANY_KEY))
            if known is None:
                raise ConfigError(f"{path} is not a key of a web configuration file (known here: {', '.join(schema)})")
            if each != "" or ANY_KEY in schema:
                found[key] = _convert(each, known, path)
        return found
    if isinstance(schema, Sequence):
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise ConfigError(f"{name} must be a list of texts")
        return [_convert(each, schema[0], name) for each in value]
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text")
    try:
        return schema(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _line(mark: yaml.Mark | None) -> str:
    return f"line {1 if mark is None else mark.line + 1}"
