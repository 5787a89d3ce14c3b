"""Command ``records-docs``: writes docs/records.md, the fields of all records as the classes in :mod:`.kinds` have them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mlff_distiller.records.fields import CLASSES
from mlff_distiller.records.kinds.timing import Summary
from mlff_distiller.records.schema import RESULTS
from mlff_distiller.utils.files import CHECKOUT, checkout, write_text
from mlff_distiller.utils.settings import expected

PAGE = CHECKOUT / "docs" / "records.md"
INTRODUCTION = f"""\
<!-- Written by `python -m mlff_distiller records-docs`, from workflow/mlff_distiller/records/kinds/. -->
# Fields of records

Every job writes what it measured as records into one JSON file: `schema_version`, `provenance` (machine, versions,
commit) and `records`, a list of mappings. `collect` merges the files of a run into `{RESULTS}`, of the same form.

A field that does not apply is missing or null, as it says below; any number that was not finite is null.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of the command."""
    parser.description = "Write the page of all fields of records."
    parser.add_argument("--output", type=Path, help="default: docs/records.md")


def run(arguments: Namespace) -> int:
    """Write the page."""
    output = arguments.output or checkout("records-docs without --output") / "docs" / "records.md"
    print(write_text(output, page()))
    return 0


def page() -> str:
    """The page, in Markdown: a section for each class, after those that it builds on and before those within it."""
    headings = _headings()
    parts: dict[str, str] = {}
    for classes in CLASSES.values():
        for form in classes.values():
            parts |= {name: part for name, part in _sections(form, headings) if name not in parts}
    parts |= dict(_sections(Summary, headings))
    return "\n".join([INTRODUCTION, *parts.values()])


def _headings() -> dict[str, str]:
    """Class -> heading: the kind and tasks that it is the class of; of a class within others its name."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for kind, classes in CLASSES.items():
        for task, form in classes.items():
            tasks.setdefault((form.__name__, kind), []).extend([task] if task else [])
    found = {name: f"{kind}: {', '.join(chosen)}" if chosen else kind for (name, kind), chosen in tasks.items()}
    return found | {"Common": "All records", "OfVariant": "All records of variants", "Summary": "benchmark, merged"}


def _sections(form: type, headings: dict[str, str]) -> Iterator[tuple[str, str]]:
    bases = [base for base in form.__orig_bases__ if base.__name__ != "TypedDict"]  # type: ignore[attr-defined]
    for base in bases:
        yield from _sections(base, headings)
    schema = TypeAdapter(form).json_schema()
    inherited = {name for base in bases for name in base.__annotations__}
    yield form.__name__, _section(form.__name__, schema, [base.__name__ for base in bases], inherited, headings)
    for name, within in schema.get("$defs", {}).items():
        yield name, _section(name, within, [], set(), headings)


def _section(name: str, schema: dict[str, Any], bases: list[str], inherited: set[str], headings: dict[str, str]) -> str:
    level = "##" if name in headings else "###"
    lines = [f"{level} {headings.get(name, name)}", "", schema["description"]]
    if bases:
        lines += ["", f"Has the fields of {' and '.join(_link(base, headings) for base in bases)}, too."]
    own = {field: form for field, form in schema["properties"].items() if field not in inherited}
    if own:
        lines += ["", "| field | type | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{field}` | {_type(form, headings)} | {_unit(form)} | {form['description']} |"
            for field, form in own.items()
        ]
    return "\n".join([*lines, ""])


def _link(name: str, headings: dict[str, str]) -> str:
    heading = headings.get(name, name)
    anchor = "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return f"[{heading}](#{anchor})"


def _type(form: dict[str, Any], headings: dict[str, str]) -> str:
    """The type in words."""
    if "$ref" in form:
        return _link(form["$ref"].rpartition("/")[2], headings)
    if "anyOf" in form:
        return " or ".join("null" if one == {"type": "null"} else _type(one, headings) for one in form["anyOf"])
    if form.get("type") == "array":
        items = _type(form["items"], headings)
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if form.get("type") == "object":
        within = form.get("additionalProperties")
        return f"mapping to {_type(within, headings)}" if isinstance(within, dict) else "mapping"
    return expected(form, {}).replace("|", "\\|")


def _unit(form: Any) -> str:
    """The unit of the numbers in a type; empty without one."""
    if not isinstance(form, dict):
        return ""
    nested = [*form.get("anyOf", []), form.get("items"), form.get("additionalProperties")]
    return str(form.get("unit") or next(filter(None, map(_unit, nested)), ""))
