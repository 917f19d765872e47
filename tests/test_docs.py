"""The documents agree with the code."""

import ast
import importlib
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from blemish import cli
from blemish.commands import BUILTIN
from blemish.registry import KINDS

DOCS = Path(__file__).parents[1] / "docs"


def test_generated_pages_are_up_to_date():
    """In a process of its own: other tests register architectures and metrics in this one."""
    code = (
        "import importlib.util, json\n"
        f"spec = importlib.util.spec_from_file_location('make_tables', {str(DOCS / 'make_tables.py')!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps({str(path): text for path, text in module.pages().items()}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = {Path(path): text for path, text in json.loads(done.stdout).items()}
    assert len(pages) > 3
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make docs"


def test_links_between_documents_exist():
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_decisions_have_one_number_each_in_the_index():
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    index = (DOCS / "decisions" / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| \[.*\]\((\S+)\)", index, re.MULTILINE)
    assert rows == [(page.name[:4], page.name) for page in pages]
    assert len(dict(rows)) == len(rows), "two decisions of one number"
    for page in pages:
        number = re.match(r"# (\d{4}): ", page.read_text("utf-8"))
        assert number is None or number[1] == page.name[:4], page.name


def test_readme_mentions_every_command():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in BUILTIN if f"blemish {name}" not in text] == []


def test_builtin_recipes_can_be_read():
    from blemish.config.builtin import builtin_recipes
    from blemish.config.recipe import read_recipe

    recipes = builtin_recipes()
    assert recipes
    for name in recipes:
        assert read_recipe(name).name == name


def printed_commands():
    """Yield every `blemish …` in a document, in a code block or inline, with the document's name."""
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        if page.name == "cli.md":  # generated, with usage lines in place of commands
            continue
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in re.sub(r"\\?\n +(?=--)", " ", block).splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).replace("\n", " ")
        lines += re.findall(r"`(blemish [^`]+)`", prose)
        for line in (part.strip() for whole in lines for part in whole.split("|")):
            if line.startswith("blemish ") and not line.startswith("blemish --"):
                yield page.name, re.split(r"\s[>#]", line)[0]


def test_commands_in_documents_have_existing_names_and_options():
    import typer

    usage_error: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")
    commands = list(printed_commands())
    assert len(commands) > 50
    for page, line in commands:
        arguments = shlex.split(line)[1:]
        command = typer.main.get_command(cli.build_app(arguments))
        try:
            while arguments and hasattr(command, "commands"):
                assert arguments[0] in command.commands, f"{page}: {line}"
                command = command.commands[arguments.pop(0)]
            if not hasattr(command, "commands"):
                context = command.context_class(command)
                remaining = command.make_parser(context).parse_args(arguments)[1]
                assert remaining == [], f"{page}: {line}: {remaining}"
        except usage_error as error:
            raise AssertionError(f"{page}: {line}: {error.message}") from error


def test_python_in_the_plugin_guide_imports_existing_names():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 13
    for block in blocks:
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("blemish"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_plugin_guide_has_a_section_for_every_kind():
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"`blemish.{kind}`" in text, kind


def test_every_page_is_in_the_navigation_of_the_site():
    text = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"([\w/.-]+\.md)$", text, re.MULTILINE)
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def bench_commands():
    """Yield (script, arguments) of every `python bench/… …` in a document."""
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        text = page.read_text(encoding="utf-8").replace("\\|", "|")
        for line in re.findall(r"python (bench/\w+\.py[^`\n]*)", text):
            script, *arguments = shlex.split(line)
            yield DOCS.parent / script, arguments


def test_bench_commands_in_documents_have_existing_options():
    commands = list(bench_commands())
    assert len(commands) > 20
    for script, arguments in commands:
        added = [
            node
            for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        ]
        known = {a.value for call in added for a in call.args if isinstance(a, ast.Constant)}
        used = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert used <= known, f"{script.name}: {used - known}"


def test_recipe_keys_of_commands_in_documents_exist_and_accept_their_values():
    from blemish.config.recipe import read_recipe

    lines = [shlex.split(line) for _, line in printed_commands()]
    lines = [line for line in lines if line[1] == "train"] + [a for _, a in bench_commands()]
    checked = 0
    for line in lines:
        settings = [value for name, value in itertools.pairwise(line) if name == "--set"]
        settings = [value for value in settings if "=" in value and "…" not in value]
        model = [value for name, value in itertools.pairwise(line) if name == "--model"]
        if settings:
            read_recipe(settings=settings, overrides={"model.name": model[0] if model else None})
            checked += len(settings)
    assert checked > 60


def test_imports_of_scripts_exist():
    """Also of code in strings, which scripts run in other processes; the type checker does not see it."""
    root, checked = DOCS.parent, 0
    for script in (
        path for folder in (".ci", "bench", "docs", "tools") for path in (root / folder).rglob("*.py")
    ):
        for module, names in re.findall(r"from (blemish[\w.]*) import ([\w, ]+)", script.read_text("utf-8")):
            spec = importlib.util.find_spec(module)
            assert spec and spec.origin, f"{script.name}: {module}"
            source = Path(spec.origin).read_text("utf-8")
            for name in names.split(","):
                name = name.split(" as ")[0].strip()
                exists = re.search(rf"\b{name}\b", source) or importlib.util.find_spec(f"{module}.{name}")
                assert exists, f"{script.name}: {module}.{name}"
                checked += 1
    assert checked > 30
