"""Stage ``config-schema``: the schema of the configuration and the tables of config/README.md, from its classes."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from mlff_distiller.preflight.config import Config
from mlff_distiller.utils.files import CHECKOUT, checkout, write_text
from mlff_distiller.utils.settings import any_of_its_keys, expected, resolved
from mlff_distiller.variants.registry import FAMILIES

SCHEMA = CHECKOUT / "workflow" / "schemas" / "config.schema.yaml"
README = CHECKOUT / "config" / "README.md"
DEFAULT_RUN = CHECKOUT / "config" / "config.yaml"
#: The tables of the README are between these lines.
BEGIN = "<!-- These tables are written by `python -m mlff_distiller config-schema`. -->"
END = "<!-- End of the tables. -->"
#: Letters up to which a default is shown.
SHORT = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(args: argparse.Namespace) -> int:
    """Write both files."""
    checkout("config-schema")
    write_text(SCHEMA, schema_text())
    write_text(README, readme_text())
    print(f"{SCHEMA}\n{README}")
    return 0


def schema_text() -> str:
    """The schema as YAML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _without_titles(Config.model_json_schema())
    schema |= {"title": "Configuration of a run"}
    return yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=120)


def readme_text() -> str:
    """config/README.md with tables of the classes as they are."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """A table per section of the configuration: key, type, default, unit, meaning."""
    schema = Config.model_json_schema()
    defaults = yaml.safe_load(DEFAULT_RUN.read_text(encoding="utf-8"))
    sections = {name: resolved(node, schema) for name, node in schema["properties"].items()}
    plain = {name: node for name, node in sections.items() if not _is_mapping(node, schema)}
    parts = [_table(_rows({"properties": plain}, schema, defaults, "", {}))]
    known: dict[str, str] = {}
    for name, node in sections.items():
        if name in plain:
            continue
        told = schema["properties"][name].get("description") or node.get("description", "")
        rows = _rows({"properties": {name: node}}, schema, defaults, "", known)
        parts.append(f"### `{name}`\n{_sentence(told)}\n\n{_table(rows)}")
        if name == "variants":
            parts.append(_families())
    return "\n".join(parts)


def _rows(
    node: Mapping[str, Any],
    schema: Mapping[str, Any],
    defaults: Any,
    path: str,
    known: dict[str, str],
) -> Iterator[tuple[str, ...]]:
    """Rows of the keys below ``node``; ``known``: where mappings of the same keys stand already."""
    inner = dict(node.get("properties", {}))
    if (free := any_of_its_keys(node)) is not None:
        inner["NAME"] = free
    for key, given in inner.items():
        below = resolved(given, schema)
        full, default = f"{path}{key}", defaults.get(key) if isinstance(defaults, Mapping) else None
        choices = [resolved(choice, schema) for choice in below.get("anyOf", [below])]
        mapping = next((choice for choice in choices if _is_mapping(choice, schema)), None)
        told = given.get("description") or ("" if mapping is None else _phrase(mapping.get("description", "")))
        if mapping is None:
            written = isinstance(defaults, Mapping) and key in defaults
            shown = default if written else given.get("default", "")
            asked = "default" in given or written
            yield full, expected(below, schema), _shown(shown) if asked else "", below.get("unit", ""), told
            continue
        keys = json.dumps(mapping.get("properties"))
        if "properties" in mapping and keys in known:
            yield full, f"mapping, keys as `{known[keys]}`", "", "", told
            continue
        known[keys] = full
        if path:
            yield full, "mapping", "", "", told
        yield from _rows(mapping, schema, default, f"{full}.", known)


def _is_mapping(node: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether ``node`` has keys of which there is something to say."""
    free = any_of_its_keys(node)
    return "properties" in node or (free is not None and resolved(free, schema) != {})


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
    for key, kind, default, unit, meaning in rows:
        lines.append(f"| `{key}` | {_cell(kind)} | {default} | {unit} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def _families() -> str:
    lines = ["| family | options, the default first | what it is |", "|---|---|---|"]
    for name, entry in FAMILIES.items():
        options = "; ".join(f"`{key}`: {', '.join(map(_yaml, allowed))}" for key, allowed in entry.options.items())
        lines.append(f"| `{name}` | {options} | {entry.summary} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    text = _yaml(value)
    return f"`{text}`" if len(text) <= SHORT else "see `config.yaml`"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("\\|", "|").replace("|", "\\|").replace("\n", " ")


def _phrase(text: str) -> str:
    """The first paragraph of a class's text, in one line."""
    return " ".join(text.partition("\n\n")[0].split()).removesuffix(".")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{_phrase(text)[1:]}."


def _without_titles(node: Any) -> Any:
    """A schema without the titles that pydantic makes of the names of fields."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_titles(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _without_titles(value)
        for key, value in node.items()
        if key != "title" or not isinstance(value, str)
    }
