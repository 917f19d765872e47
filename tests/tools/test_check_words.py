"""The check of words finds what it should, and nothing else."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_words.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_words", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_words"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def words(tool, name, text, folder):
    path = folder / name
    path.write_text(text, "utf-8")
    return [(f.line, f.word.lower()) for f in tool.find_words(tool.texts_of(path), name, *tool.read_rules())]


def test_python_docstrings_comments_messages_and_names(tool, tmp_path):
    source = (
        '"""What the file says."""\n'
        "def told(said):\n"
        '    raise ValueError(f"nobody knows {said}")  # likewise\n'
        "class LookCache:\n"
        "    verdict: str = 'said'\n"
    )
    assert words(tool, "a.py", source, tmp_path) == [
        (1, "says"), (2, "told"), (2, "said"), (3, "nobody"), (3, "likewise"), (5, "verdict"),
    ]  # fmt: skip


def test_python_code_in_text_is_not_checked(tool, tmp_path):
    source = '"""Return `said`.\n\nExample:\n    >>> said(1)\n"""\nPATTERN = r"\\bsaid \\d"\nKEY = "said"\n'
    assert words(tool, "a.py", source, tmp_path) == []


def test_lines_of_a_docstring_are_exact(tool, tmp_path):
    assert words(tool, "a.py", '"""Return it.\n\nA film,\nthen a film.\n"""\n', tmp_path) == [
        (3, "film"),
        (4, "film"),
    ]


def test_tests_are_checked_for_names_and_docstrings_only(tool):
    source = 'def test_nobody():\n    """Films."""\n    x = "he said so"  # told\n'
    found = [t.text for t in tool.python_texts(source, names_only=True)]
    assert found == ["test nobody", "x", "Films."]


def test_markdown_code_and_links_are_not_checked(tool, tmp_path):
    text = "Said.\n\n```sh\nblemish said\n```\nthe `said` key, [a link](said.md), https://said.org\ntold\n"
    assert words(tool, "a.md", text, tmp_path) == [(1, "said"), (7, "told")]


def test_script_strings_and_comments(tool, tmp_path):
    text = "// a film here\nconst verdict = said(`the ${verdict} is told`);\n"
    assert words(tool, "a.js", text, tmp_path) == [(1, "film"), (2, "told")]


def test_page_text_without_markup(tool, tmp_path):
    assert words(tool, "a.html", '<p class="said">A film<script>said</script>\n{{ told }}</p>', tmp_path) == [
        (1, "film")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "CI stands for continuous integration", "the ground truth", "per cent", "he looks up a name",
        "a resize that normalizes colors", "standard", "exercise", "raised",
    ],
)  # fmt: skip
def test_plain_text_is_accepted(tool, text, tmp_path):
    assert words(tool, "a.md", text + "\n", tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "the truth",
        "colours",
        "labelled",
        "normalised",
        "it stands",
        "looks at",
        "grey",
        "centre",
        "two looks",
    ],
)
def test_words_of_the_list_are_found(tool, text, tmp_path):
    assert len(words(tool, "a.md", text + "\n", tmp_path)) == 1


def test_decisions_of_an_earlier_date_are_skipped(tool):
    checked = {path.name for path in tool.files([str(tool.ROOT / "docs")])}
    assert "rest.md" in checked and not any(name.startswith("0001") for name in checked)


def test_command_line_counts_and_limit(tmp_path):
    (tmp_path / "a.md").write_text("said\ntold\n", "utf-8")

    def run(*options):
        return subprocess.run(
            [sys.executable, TOOL, *options, tmp_path], capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 1 and "a.md:2: 'told'" in done.stdout
    assert run("--max", "2").returncode == 0
    assert run("--max", "1").returncode == 1
    assert "2 " in run("--counts", "--max", "2").stdout


def test_word_list_line_without_advice_is_refused(tool, tmp_path):
    (tmp_path / "w.txt").write_text("all | said\n", "utf-8")
    with pytest.raises(ValueError, match=r"w\.txt:1"):
        tool.read_rules(tmp_path / "w.txt")
