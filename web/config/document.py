"""YAML as exporter-toolkit reads it: known keys only, each key once, every scalar a text."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from amp_workers.web.errors import ConfigError

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
        root = yaml.compose(text, yaml.BaseLoader)
    except RecursionError:
        raise ConfigError("the document is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        # A password that begins with * is an alias, and one that begins with ! a tag.
        problem = _QUOTED.sub("'…'", error.problem or "not YAML")
        raise ConfigError(f"{_line(error.problem_mark)}: {problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError("not YAML") from error
    return {} if root is None else _read_mapping(root, schema, "")


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


def _read(node: yaml.Node, schema: Schema, name: str) -> Any:
    if isinstance(schema, Mapping):
        return _read_mapping(node, schema, name)
    if isinstance(schema, Sequence):
        is_list = isinstance(node, yaml.SequenceNode)
        if not is_list or not all(isinstance(each, yaml.ScalarNode) and not _is_null(each) for each in node.value):
            raise ConfigError(f"{name} must be a list of texts")
        return [_read(each, schema[0], name) for each in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{name} must be a text")
    try:
        return schema("" if _is_null(node) else node.value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _read_mapping(node: yaml.Node, schema: Mapping[str, Schema], name: str) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{name or 'the document'} must be a mapping of keys to values")
    keys, found = set[str](), dict[str, Any]()
    for key_node, value in node.value:
        key, line = key_node.value, _line(key_node.start_mark)
        # A colon would end a user's name in the credentials of a request.
        if not isinstance(key_node, yaml.ScalarNode) or not key.isprintable() or ":" in key:
            raise ConfigError(f"{line}: a key must be a printable text without a colon")
        path = f"{name}.{key}" if name else key
        if key in keys:
            raise ConfigError(f"{line}: {path} is defined twice")
        keys.add(key)
        known = schema.get(key) or schema.get(ANY_KEY)
        if known is None:
            raise ConfigError(f"{path} is not a key of a web configuration file (known here: {', '.join(schema)})")
        if not _is_null(value) or ANY_KEY in schema:
            found[key] = _read(value, known, path)
    return found


def _is_null(node: yaml.Node) -> bool:
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return node.value == "" or (is_plain and node.value in _NULLS)


def _line(mark: yaml.Mark | None) -> str:
    return f"line {1 if mark is None else mark.line + 1}"
