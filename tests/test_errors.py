"""The install commands in messages: from where the package came from."""

import json
from importlib import metadata

import pytest

from blemish import errors
from blemish.errors import MissingExtra, install_command, published_install_command

CHECKOUT = {"url": "file:///home/ada/blemish", "dir_info": {}}
EDITABLE = {"url": "file:///home/ada/blemish", "dir_info": {"editable": True}}
GIT = {"url": "https://example.org/blemish.git", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}}
WHEEL = {"url": "file:///home/ada/dist/blemish-0.1-py3-none-any.whl", "archive_info": {}}
REMOTE = {"url": "https://example.org/blemish-0.1-py3-none-any.whl", "archive_info": {}}


class Installed:
    def __init__(self, text):
        self.text = text

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.text


@pytest.fixture
def installed(monkeypatch):
    def arrange(text):
        monkeypatch.setattr(metadata, "distribution", lambda name: Installed(text))

    return arrange


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (CHECKOUT, "pip install '.[yolo]'"),
        (EDITABLE, "pip install -e '.[yolo]'"),
        (GIT, "pip install 'blemish[yolo] @ git+https://example.org/blemish.git@0a1b'"),
        (WHEEL, "pip install './blemish-0.1-py3-none-any.whl[yolo]'"),
        (REMOTE, "pip install 'blemish[yolo] @ https://example.org/blemish-0.1-py3-none-any.whl'"),
    ],
)
def test_install_command_installs_from_the_origin_of_the_package(installed, origin, command):
    installed(json.dumps(origin))
    assert install_command("yolo").startswith(command)
    assert "/home/ada" not in str(MissingExtra("yolo", "YOLO"))


def test_install_command_of_a_package_from_an_index(installed):
    installed(None)
    assert install_command("train", "yolo") == "pip install 'blemish[train,yolo]'"
    assert install_command() == "pip install 'blemish'"


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_install_command_with_a_damaged_record_is_that_of_any_machine(installed, text):
    installed(text)
    assert install_command("yolo") == published_install_command("yolo")


def test_install_command_without_an_installed_package(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert install_command("yolo") == published_install_command("yolo")


def test_published_install_command_after_the_first_release(monkeypatch):
    monkeypatch.setattr(errors, "ON_PYPI", True)
    assert published_install_command("yolo") == "pip install 'blemish[yolo]'"
