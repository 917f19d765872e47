"""What the documents say of the code is what the code says of itself."""

import importlib.util
import re
from pathlib import Path

from blemish import cli

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_architectures_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.table(), "run make docs"


def test_every_link_between_documents_leads_somewhere():
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_verb_stands_in_the_readme():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in cli.VERBS if f"blemish {verb}" not in text] == []


def test_every_recipe_is_a_recipe():
    from blemish.training.recipe import read_recipe
    from blemish.training.shipped import shipped_recipes

    recipes = shipped_recipes()
    assert recipes
    for name in recipes:
        assert read_recipe(name).name == name
