"""Check the words of docstrings, comments, messages, documents, web pages and names against tools/words.txt.

    python tools/check_words.py                 every finding; exit code 1 if there is one
    python tools/check_words.py --counts        findings per package and per rule
    python tools/check_words.py --max 100       exit code 1 only above 100 findings
    python tools/check_words.py src/blemish/data docs/rest.md

Decisions in docs/decisions/ keep the words of their date, and code in documents is quoted, so neither is
checked: see `SKIPPED` and `markdown_prose`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORDS = Path(__file__).with_name("words.txt")
CHECKED = ("src", "tests", "docs", "bench", "tools", "examples", "recipes", ".github", ".ci")
SUFFIXES = (".py", ".md", ".js", ".html", ".jinja", ".yaml", ".yml", ".css")
LAST_OLD_DECISION = 18  # docs/decisions/0001 to 0018 were written before the word list
SKIPPED = (
    "tools/words.txt",
    "tools/check_words.py",
    "docs/glossary.md",  # it translates the old words
    "tests/tools/test_check_words.py",
    "THIRD_PARTY_NOTICES.md",
    "docs/openapi.json",
    "docs/decisions/index.md",  # the titles of the decisions
)


@dataclass(frozen=True)
class Rule:
    """One line of the word list.

    Attributes:
        scope: "all", "prose" or "names".
        pattern: matches the words to avoid.
        source: the pattern as written.
        advice: what to write instead.
    """

    scope: str
    pattern: re.Pattern[str]
    source: str
    advice: str


@dataclass(frozen=True)
class Text:
    """A piece of text of a file.

    Attributes:
        line: where it begins, from 1.
        text: the words.
        scope: "prose" or "names".
    """

    line: int
    text: str
    scope: str


@dataclass(frozen=True)
class Finding:
    """A word of the list in a file."""

    path: str
    line: int
    word: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: {self.rule.advice}"


def read_rules(path: Path = WORDS) -> tuple[list[Rule], re.Pattern[str]]:
    """Return the rules of a word list, and the pattern of what it allows.

    Raises:
        ValueError: a line is not of the form SCOPE | PATTERN | ADVICE.
    """
    rules, allowed = [], []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        scope, _, rest = line.partition(" | ")
        source, _, advice = rest.rpartition(" | ")
        scope, source, advice = scope.strip(), source.strip(), advice.strip()
        if scope not in ("all", "prose", "names", "allow") or not source or not advice:
            raise ValueError(f"{path.name}:{number}: expected SCOPE | PATTERN | ADVICE, got {line!r}")
        if scope == "allow":
            allowed.append(source)
        else:
            pattern = re.compile(rf"\b(?:{source})(?!\w)", re.IGNORECASE)
            rules.append(Rule(scope, pattern, source, advice))
    return rules, re.compile(rf"\b(?:{'|'.join(allowed) or '(?!)'})\b", re.IGNORECASE)


def find_words(
    texts: Iterator[Text], path: str, rules: list[Rule], allowed: re.Pattern[str]
) -> list[Finding]:
    """Return the words of the list in some texts, in order of their lines."""
    found = []
    for text in texts:
        spared = [match.span() for match in allowed.finditer(text.text)]
        for rule in rules:
            if rule.scope not in ("all", text.scope):
                continue
            for match in rule.pattern.finditer(text.text):
                if any(a <= match.start() < b for a, b in spared):
                    continue
                line = text.line + text.text.count("\n", 0, match.start())
                found.append(Finding(path, line, match.group(), rule))
    return sorted(found, key=lambda finding: finding.line)


def texts_of(path: Path) -> Iterator[Text]:
    """Yield the texts of a file, by its suffix."""
    source = path.read_text(encoding="utf-8")
    relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    match path.suffix:
        case ".py":
            yield from python_texts(source, names_only=relative.startswith("tests/"))
        case ".md":
            yield Text(1, markdown_prose(source), "prose")
        case ".js":
            yield from javascript_texts(source)
        case ".html" | ".jinja":
            yield Text(1, blank(source, r"<(script|style)\b.*?</\1>|<[^>]*>|\{[{%#].*?[%#}]\}"), "prose")
        case ".css":
            for match in re.finditer(r"/\*.*?\*/", source, re.DOTALL):
                yield Text(line_of(source, match.start()), match.group(), "prose")
        case _:  # YAML
            for number, line in enumerate(source.splitlines(), start=1):
                comment = re.search(r"(?:^|\s)#(.*)", line)
                if comment:
                    yield Text(number, comment.group(1), "prose")


def python_texts(source: str, *, names_only: bool = False) -> Iterator[Text]:
    """Yield the docstrings, comments, string literals and names of a module.

    Args:
        source: the module's text.
        names_only: leave out string literals and comments, as for tests, whose data may contain any word.
    """
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[0] if node.body else None
            if isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant):
                docstrings.add(body.value)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield Text(node.lineno, words_of_name(node.name), "names")
        elif isinstance(node, ast.arg):
            yield Text(node.lineno, words_of_name(node.arg), "names")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield Text(node.lineno, words_of_name(node.id), "names")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Text(node.lineno, words_of_name(node.attr), "names")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (node in docstrings or (not names_only and is_prose(node.value)))
        ):
            yield Text(node.lineno, without_inline_code(node.value), "prose")
    if not names_only:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and not token.string.startswith("#!"):
                yield Text(token.start[0], without_inline_code(token.string), "prose")


def is_prose(value: str) -> bool:
    """Return whether a string literal contains several words, and is not code, a path or a pattern.

    Example:
        >>> is_prose("the file is empty"), is_prose("labels.csv")
        (True, False)
    """
    return " " in value.strip() and not re.search(
        r"\\[dwsb]|\(\?|^\s*(import|from|SELECT|INSERT|CREATE)\b", value
    )


def words_of_name(name: str) -> str:
    """Return a name's words, separated by spaces.

    Example:
        >>> words_of_name("test_what_isSaid"), words_of_name("LookCache")
        ('test what is said', 'look cache')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name)
    return spaced.strip().lower()


def blank(text: str, pattern: str) -> str:
    """Replace every match of a pattern by spaces, line feeds kept, so that line numbers stay right."""
    return re.sub(
        pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.DOTALL | re.MULTILINE
    )


def without_inline_code(text: str) -> str:
    """Blank what is quoted as code in a docstring or comment: `...`, doctest lines, URLs."""
    return blank(text, r"``?[^`\n]+``?|^\s*(>>>|\.\.\.) [^\n]*|https?://\S+")


def markdown_prose(text: str) -> str:
    """Return a document with its code blocks, inline code, link targets and front matter blanked."""
    return blank(text, r"\A---\n.*?\n---\n|^ *```.*?^ *```|``?[^`]+?``?|\]\([^)\s]*\)|https?://\S+|<[^>\n]+>")


def javascript_texts(source: str) -> Iterator[Text]:
    r"""Yield the comments and string literals of a script."""
    pattern = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
    for match in re.finditer(pattern, source, re.DOTALL):
        if " " in match.group().strip("/* \"'`"):
            text = re.sub(r"\$\{[^}]*\}", "", match.group().strip("`"))
            yield Text(line_of(source, match.start()), without_inline_code(text), "prose")


def line_of(text: str, position: int) -> int:
    """Return the line of a position, from 1."""
    return text.count("\n", 0, position) + 1


def files(arguments: list[str]) -> list[Path]:
    """Return the files to check: those named, those in the folders named, or the whole project."""
    starts = [Path(a).resolve() for a in arguments] or [
        *(ROOT / folder for folder in CHECKED),
        *sorted(ROOT.glob("*.md")),
    ]
    found: list[Path] = []
    for start in starts:
        inside = [start] if start.is_file() else sorted(start.rglob("*"))
        found += [path for path in inside if path.suffix in SUFFIXES and path.is_file()]
    return [path for path in found if not is_skipped(path)]


def is_skipped(path: Path) -> bool:
    """Return whether a file is generated, quotes the list, or is a decision of an earlier date."""
    if not path.is_relative_to(ROOT):
        return False
    relative = path.relative_to(ROOT).as_posix()
    number = re.match(r"docs/decisions/(\d+)", relative)
    old = number is not None and int(number.group(1)) <= LAST_OLD_DECISION
    return old or relative in SKIPPED or "__pycache__" in relative or "node_modules" in relative


def package_of(path: str) -> str:
    """Return the package or folder that a count is reported for.

    Example:
        >>> package_of("src/blemish/data/formats/yolo.py"), package_of("README.md")
        ('src/blemish/data', '.')
    """
    parts = path.split("/")[:-1]
    depth = 3 if parts[:1] == ["src"] else 2 if parts[:1] == ["tests"] else 1
    return "/".join(parts[:depth]) or "."


def main() -> int:
    """Print the findings and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="files and folders; the whole project if there are none")
    parser.add_argument("--max", type=int, default=0, metavar="N", help="accept up to N findings (default 0)")
    parser.add_argument("--counts", action="store_true", help="print counts per package and per rule")
    options = parser.parse_args()
    rules, allowed = read_rules()
    findings: list[Finding] = []
    for path in files(options.paths):
        relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
        findings += find_words(texts_of(path), relative, rules, allowed)
    if options.counts:
        for name, count in sorted(Counter(package_of(f.path) for f in findings).items()):
            print(f"{count:6} {name}")
        for source, count in Counter(f.rule.source for f in findings).most_common():
            print(f"{count:6} {source}")
    elif len(findings) > options.max or not options.max:
        for finding in findings:
            print(finding)
    if findings:
        print(
            f"{len(findings)} findings of tools/words.txt; at most {options.max} are accepted",
            file=sys.stderr,
        )
    return int(len(findings) > options.max)


if __name__ == "__main__":
    sys.exit(main())
