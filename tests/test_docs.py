"""What the documents say of the code is what the code says of itself."""

import importlib.util
import re
from pathlib import Path

from blemish import cli

DOCS = Path(__file__).parents[1] / "docs"


def test_generated_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make docs"


def test_every_link_between_documents_leads_somewhere():
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_verb_stands_in_the_readme():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in cli.VERBS if f"blemish {verb}" not in text] == []


def test_every_recipe_is_a_recipe():
    from blemish.config.builtin import builtin_recipes
    from blemish.config.recipe import read_recipe

    recipes = builtin_recipes()
    assert recipes
    for name in recipes:
        assert read_recipe(name).name == name


def printed_commands():
    """Every `blemish …` that a document prints, in a block or between words, with the document's name."""
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in re.sub(r"\\?\n +(?=--)", " ", block).splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).replace("\n", " ")
        lines += re.findall(r"`(blemish [^`]+)`", prose)
        for line in (part.strip() for whole in lines for part in whole.split("|")):
            if line.startswith("blemish ") and not line.startswith("blemish --"):
                yield page.name, re.split(r"\s[>#]", line)[0]


def test_every_command_that_a_document_prints_has_the_verb_and_the_options():
    import shlex

    import click
    import typer

    commands = list(printed_commands())
    assert len(commands) > 50
    for page, line in commands:
        arguments = shlex.split(line)[1:]
        command = typer.main.get_command(cli.build(arguments))
        try:
            while arguments and hasattr(command, "commands"):
                assert arguments[0] in command.commands, f"{page}: {line}"
                command = command.commands[arguments.pop(0)]
            if not hasattr(command, "commands"):
                left = command.make_parser(click.Context(command)).parse_args(arguments)[1]
                assert left == [], f"{page}: {line}: {left}"
        except click.UsageError as error:
            raise AssertionError(f"{page}: {line}: {error.message}") from error
