"""Write THIRD_PARTY_NOTICES.md: the licenses of the packages that Blemish depends on.

    python tools/make_notices.py           write the file
    python tools/make_notices.py --check   exit code 1 if a package is missing from the file

The licenses come from the metadata of the installed distributions. The file lists the requirements in
`pyproject.toml` and their own requirements, per extra.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "THIRD_PARTY_NOTICES.md"
EXTRAS = (
    "train",
    "few",
    "eval",
    "segment",
    "serve",
    "inspections",
    "postgresql",
    "measure",
    "openvino",
    "hub",
    "video",
    "demo",
    "parquet",
    "remote",
)
INTRODUCTION = """# Third-party notices

Blemish itself is licensed under Apache-2.0 (see [LICENSE](LICENSE)). It does not contain the packages
below: an installation downloads them. This file is generated from their metadata by `make notices`.

The extra `yolo` installs Ultralytics, which is licensed under **AGPL-3.0**: a program or service that uses
it must offer its source. Blemish prints this wherever such a model appears. The extra `rfdetr` installs RF-
DETR (Apache-2.0). Neither is needed by anything else. Pretrained weights and data sets have licenses of
their own; `blemish info FILE` prints those of a model file.

The solar cells of `blemish demo` are from the ELPV data set (CC BY-NC-SA 4.0, for non-commercial use only):
C. Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery", EU PVSEC 2018; S. Deitsch et al., "Automatic classification of defective
photovoltaic module cells in electroluminescence images", Solar Energy 185, 2019.
"""


def direct_requirements(extra: str | None) -> list[str]:
    """Return the names that pyproject.toml requires, of the base installation or of one extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return [canonical(line) for line in lines]


def canonical(requirement: str) -> str:
    """Return the normalized name of a requirement.

    Example:
        >>> canonical("huggingface_hub>=0.30; python_version > '3'")
        'huggingface-hub'
    """
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name.group() if name else "").lower()


def closure(names: list[str]) -> Iterator[str]:
    """Yield the installed packages among `names` and all that they need."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        yield name
        waiting += [canonical(r) for r in distribution.requires or () if "extra ==" not in r]


def license_of(name: str) -> str:
    """Return the license that a distribution declares, at most 80 characters."""
    facts = metadata.metadata(name)
    expression = facts.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or () if c.startswith("License ::")
    ]
    if classifiers:
        return ", ".join(classifiers)
    text = (facts.get("License") or "").strip()
    return text.splitlines()[0][:80] if text else "not declared"


def page() -> str:
    """Return the whole file."""
    lines = [INTRODUCTION]
    listed: set[str] = set()
    for extra in (None, *EXTRAS):
        names = sorted(set(closure(direct_requirements(extra))) - listed)
        listed |= set(names)
        if names:
            lines += [f"## {'Base installation' if extra is None else f'Extra `{extra}`, in addition'}", ""]
            lines += ["| package | license |", "|---|---|"]
            lines += [
                f"| {metadata.metadata(name)['Name']} | {license_of(name).replace('|', '/')} |"
                for name in names
            ]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def missing(text: str) -> list[str]:
    """Return the direct requirements that a file does not list."""
    listed = {canonical(line.split("|")[1].strip()) for line in text.splitlines() if line.startswith("| ")}
    wanted = [name for extra in (None, *EXTRAS) for name in direct_requirements(extra)]
    return sorted(set(wanted) - listed)


def main() -> int:
    """Write or check the file."""
    if "--check" in sys.argv[1:]:
        absent = missing(TARGET.read_text(encoding="utf-8"))
        print(f"missing: {', '.join(absent)}; run make notices" if absent else "every requirement is listed")
        return int(bool(absent))
    TARGET.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
