"""Settings as typed classes: defaults, ranges, units and meanings in one place, and one wording for errors.

A class of settings refuses unknown keys and does not convert types (neither text nor true is a number), but takes an int for
a float. Errors, the configuration's schema and the tables of the documentation are made from its JSON schema.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from mlff_distiller.utils.errors import UserError, nearest, one_line_each

T = TypeVar("T")
#: How YAML spells what Python spells otherwise.
_YAML = {"True": "true", "False": "false", "None": "null"}


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no conversions, finite numbers only.

    Use :meth:`from_mapping`; the constructor raises pydantic's own error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    #: Where the mapping stands in the configuration, by which errors name its keys.
    place: ClassVar[str] = ""

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], place: str | None = None) -> Self:
        """``given`` over the defaults.

        Raises:
            UserError: all that is wrong, a line each: the full key, what is expected, what was given.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise UserError(one_line_each(complaints(error, cls, cls.place if place is None else place))) from None

    def to_mapping(self) -> dict[str, Any]:
        """All settings as JSON has them."""
        return self.model_dump(mode="json")


def unit(name: str) -> Any:
    """The unit of a number, for ``Annotated``."""
    return Field(json_schema_extra={"unit": name})


def _unique(items: tuple[T, ...]) -> tuple[T, ...]:
    if twice := [item for index, item in enumerate(items) if item in items[:index]]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return items


#: A list in YAML and JSON. Only the list itself may be converted; its items stay strict.
Items = Annotated[tuple[T, ...], Strict(False)]
UniqueItems = Annotated[
    tuple[T, ...], Strict(False), AfterValidator(_unique), Field(json_schema_extra={"uniqueItems": True})
]
Seed = Annotated[int, Field(ge=0)]


def refuse_unknown(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Raise a :class:`UserError` for the first of ``given`` that is not among ``known``, with the nearest that is."""
    known = list(known)
    for key in given:
        if key not in known:
            raise UserError(_unknown(key, known, where))


def complaints(error: ValidationError, model: type[BaseModel], place: str = "") -> list[str]:
    """What is wrong with a mapping, a line each, by full keys below ``place``."""
    schema, entries = model.model_json_schema(), error.errors(include_url=False)
    # pydantic calls a list too short when its items are wrong.
    inner = {entry["loc"][:depth] for entry in entries for depth in range(len(entry["loc"]))}
    return [_complaint(e, schema, place) for e in entries if not (e["type"] == "too_short" and e["loc"] in inner)]


def expected(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A node of a JSON schema in words: ``number > 0``, ``list of whole numbers >= 1``."""
    node = resolved(node, schema)
    if "anyOf" in node:
        return " or ".join(expected(choice, schema) for choice in node["anyOf"])
    if "enum" in node or "const" in node:
        return " | ".join(_YAML.get(str(choice), str(choice)) for choice in node.get("enum", [node.get("const")]))
    kind = node.get("type", "any value")
    if kind == "array":
        length = f" ({node['minItems']} or more)" if "minItems" in node else ""
        return f"list{length} of {expected(node['items'], schema)}"
    name = {"integer": "whole number", "string": "text", "boolean": "true | false", "object": "mapping"}.get(kind, kind)
    if "pattern" in node:
        name += f" that matches `{node['pattern']}`"
    if "maxLength" in node:
        name += f", {node['maxLength']} characters at most"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    told = [f"{sign} {node[key]:g}" for key, sign in bounds.items() if key in node]
    return f"{name} {' and '.join(told)}" if told else name


def resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """``node`` of ``schema``, or what it refers to."""
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def any_of_its_keys(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of the values of a mapping with arbitrary keys; None for others."""
    found = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _complaint(entry: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> str:
    path, given = list(entry["loc"]), entry["input"]
    if path and path[-1] == "[key]":
        path.pop()
    key = ".".join(map(str, ([place] if place else []) + path)) or "top level"
    if entry["type"] in ("extra_forbidden", "invalid_key"):
        known = _not_null(_node(schema, path[:-1]), schema).get("properties", {})
        return _unknown(path[-1], known, ".".join(map(str, ([place] if place else []) + path[:-1])) or "top level")
    if entry["type"] == "value_error":
        return f"{key}: {entry['ctx']['error']}"
    if entry["type"] == "missing":
        return f"{key} is missing"
    if entry["loc"] and entry["loc"][-1] == "[key]":
        patterns = _node(schema, path[:-1]).get("patternProperties")
        return f"{key}: expected a name that {f'matches `{next(iter(patterns))}`' if patterns else 'is text'}"
    node = _node(schema, path)
    if (choices := node.get("enum")) and all(isinstance(choice, str) for choice in choices):
        return f"{key}: cannot be {given!r}{nearest(given, choices)}"
    example = f"; for example {node['examples'][0]}" if "examples" in node else ""
    return f"{key}: expected {expected(node, schema)}, got {given!r}{example}{_hint(given, node)}"


def _unknown(key: Any, known: Iterable[str], where: str) -> str:
    return f"{where}: unknown key {key!r}{nearest(key, known)}"


def _node(schema: Mapping[str, Any], path: Iterable[Any]) -> Mapping[str, Any]:
    """The part of ``schema`` that describes the value at ``path``; empty where anything is allowed."""
    node: Mapping[str, Any] = schema
    for step in path:
        node = _not_null(node, schema)
        inner = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
        inner = any_of_its_keys(node) if inner is None else inner
        node = inner if isinstance(inner, Mapping) else {}
    return resolved(node, schema)


def _not_null(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice of ``node`` that is not null."""
    node = resolved(node, schema)
    return next((resolved(choice, schema) for choice in node.get("anyOf", []) if choice.get("type") != "null"), node)


def _hint(given: Any, node: Mapping[str, Any]) -> str:
    """What to write for a number that YAML takes for text."""
    kinds = {node.get("type"), *(choice.get("type") for choice in node.get("anyOf", []))}
    if not isinstance(given, str) or not kinds & {"number", "integer"}:
        return ""
    try:
        return (
            f"; a number is written without quotes, as {float(given)} (YAML takes 1e-3 for text, 1.0e-3 for a number)"
        )
    except ValueError:
        return ""
