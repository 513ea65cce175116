"""YAML as exporter-toolkit reads it: known keys alone, each key once, every scalar a text."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

Check = Callable[[Any], Any]
"""Converts the value of a key, "" or None where it is not given; raises ValueError, whose message continues the key."""

Schema = Check | Mapping[str, "Schema"]

_BOOLEANS = {"true", "yes", "on", "y", "false", "no", "off", "n"}

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, which ends a path, and halves of surrogate pairs, which have no bytes. Escapes in double quotes make them."""

_QUOTED = re.compile(r"""'[^']{2,}'|"[^"]{2,}\"""")


class InvalidDocument(Exception):
    """Something in the document is wrong; the message names the line or the key, and the reason."""


def parse(text: bytes) -> Any:
    """Return a document of mappings, lists and texts; raises InvalidDocument where it is not YAML of this kind."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - this loader makes texts alone
    except RecursionError:
        raise InvalidDocument("it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        # A password that begins with * is an alias, and one that begins with ! a tag.
        problem = _QUOTED.sub("'…'", error.problem or "it is no YAML")
        raise InvalidDocument(f"line {line}: {problem}") from error
    except yaml.YAMLError as error:
        raise InvalidDocument("it is no YAML") from error


def validate(value: Any, schema: Schema, name: str = "") -> Any:
    """Return a value with all keys of its schema, converted; raises InvalidDocument."""
    if callable(schema):
        try:
            return schema(value)
        except ValueError as error:
            raise InvalidDocument(f"{name}{error}") from error
    given = _mapping(value, name)
    prefix = f"{name}." if name else ""
    for key in given.keys() - schema.keys():
        raise InvalidDocument(f"{prefix}{key} is no key of a web configuration file")
    return {key: validate(given.get(key), each, prefix + key) for key, each in schema.items()}


def text(value: Any) -> str:
    if not isinstance(value or "", str):
        raise ValueError(" must be a text")  # noqa: TRY004 - one kind of error for all checks
    return value or ""


def boolean(value: Any) -> None:
    """Check a boolean that changes nothing."""
    if (text(value) or "true").lower() not in _BOOLEANS:
        raise ValueError(" must be true or false")


def one_of(values: Mapping[str, Any], default: str, refused: Mapping[str, str]) -> Check:
    """Convert a text. refused: known texts that are not supported, with the reasons."""

    def check(value: Any) -> Any:
        name = text(value) or default
        if name not in values:
            raise ValueError(f": {name} {refused.get(name, 'is none of ' + ', '.join(values))}")
        return values[name]

    return check


def many(values: Mapping[str, str] | None = None) -> Check:
    """Convert a list of texts. values: the texts that are supported; any text, unconverted, by default."""

    def check(value: Any) -> list[str]:
        if not isinstance(value or [], list) or not all(isinstance(each, str) and each for each in value or ()):
            raise ValueError(" must be a list of texts")
        for each in value or ():
            if values is not None and each not in values:
                raise ValueError(f": {each} is not supported; these are: {', '.join(values)}")
        return [each if values is None else values[each] for each in value or ()]

    return check


def texts(check: Callable[[str, str], Any]) -> Check:
    """Convert a mapping of any names to texts, each pair on its own; an empty text is no pair."""

    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value or {}, dict):
            raise ValueError(" must be a mapping of keys to values")  # noqa: TRY004 - one kind of error for all checks
        for name, content in (value or {}).items():
            if not isinstance(content, str):
                raise ValueError(f".{name} must be a text")  # noqa: TRY004 - as above
        return {name: check(name, content) for name, content in (value or {}).items()}

    return check_all


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value or {}, dict):
        raise InvalidDocument(f"{name or 'the file'} must be a mapping of keys to values")
    return value or {}


class _Loader(yaml.BaseLoader):
    """Reads every scalar as a text, so that a user may be named `on` or `007`. A repeated key is an error, as in Go."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002 - PyYAML's signature
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str) or key in mapping:
                problem = f"'{key}' is there twice" if isinstance(key, str) else "a key must be a text"
                raise InvalidDocument(f"line {line}: {problem}")
            is_null = value_node.value in ("~", "null", "Null", "NULL") and value_node.style is None  # without quotes
            mapping[key] = "" if is_null else self.construct_object(value_node, deep=True)
        return mapping

    def construct_scalar(self, node: Any) -> Any:
        scalar = super().construct_scalar(node)
        if _UNWRITABLE.search(scalar):
            line = node.start_mark.line + 1
            raise InvalidDocument(f"line {line}: a text has a character in it that no path and no certificate can have")
        return scalar
