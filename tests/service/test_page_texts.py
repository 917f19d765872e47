"""The catalogs of the page's texts: complete in every language, and every text in use."""

import json
import re
from pathlib import Path

import pytest

import blemish.service

PAGE = Path(blemish.service.__file__).parent / "page"
LANGUAGES = sorted(path.stem for path in (PAGE / "texts").glob("*.js"))
PLACEHOLDER = re.compile(r"\{(\w+)(\|[^|}]*\|[^}]*)?\}")
# Texts of values that the service names: tValue("state", finding.state).
VALUE_GROUPS = re.compile(r'tValue\("(\w+)"')


def catalog(language):
    text = (PAGE / "texts" / f"{language}.js").read_text("utf-8")
    body = text.split("export default {\n", 1)[1].rsplit("};", 1)[0]
    pairs = json.loads("{" + body.rstrip().rstrip(",") + "}", object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), "a key appears twice"
    return dict(pairs)


def source():
    files = [p for p in PAGE.rglob("*") if p.suffix in (".js", ".html") and p.parent.name != "texts"]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_languages_are_english_and_german():
    assert LANGUAGES == ["de", "en"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalog_has_the_keys_and_placeholders_of_the_english_one(language):
    english, other = catalog("en"), catalog(language)
    assert list(other) == list(english)
    for key, text in other.items():
        names = {name for name, _ in PLACEHOLDER.findall(text)}
        assert names == {name for name, _ in PLACEHOLDER.findall(english[key])}, key
        assert text.strip() == text and text, key


def test_every_text_is_used_and_every_used_text_exists():
    keys, code = set(catalog("en")), source()
    named = {name for name in re.findall(r'"([a-zA-Z.-]+)"', code) if name in keys}
    groups = set(VALUE_GROUPS.findall(code)) | set(re.findall(r"`(\w+(?:\.\w+)*)\.\$\{", code))
    unused = {key for key in keys - named if not any(key.startswith(f"{group}.") for group in groups)}
    assert unused == set()
    used = set(re.findall(r'\bt\("([a-zA-Z.-]+)"', code)) | set(
        re.findall(r'data-text(?:-[a-z-]+)?="([^"]+)"', code)
    )
    assert used - keys == set()
