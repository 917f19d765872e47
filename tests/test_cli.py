"""The command line: commands of plug-ins, JSON on standard output, errors on standard error."""

import importlib
import json
import os
import re
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from blemish import cli
from blemish.commands import BUILTIN, COMMANDS, Command
from blemish.registry import load_plugins

COUNT = """
import typer
from blemish.commands import register_command

register_command("count-files", f"{__name__}:count", "Count the files of a folder.")

def count(folder: str) -> None:
    import os
    typer.echo(len(os.listdir(folder)))
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a distribution `NAME 1.0` that consists of one module and declares one command."""

    def install(name, source):
        folder = tmp_path / "site"
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{name}.py").write_text(source, "utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[blemish.commands]\nmine = {name}\n", "utf-8")
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}

    return install


def blemish(*arguments, env=None):
    command = [sys.executable, "-m", "blemish", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def run(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["blemish", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_help_imports_no_command(tmp_path):
    script = (
        "import sys; sys.argv = ['blemish', '--help']\n"
        "from blemish.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not [n for n in sys.modules if n.endswith('_command')]\n"
        "assert not {'numpy', 'PIL', 'importlib.metadata', 'json', 'difflib'} & (set(sys.modules) - before)\n"
    )
    before = "import sys, rich.console, rich.markdown; import typer.rich_utils; before = set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", before + script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in BUILTIN)


def test_builtin_commands_exist():
    for name, command in BUILTIN.items():
        assert callable(command.load()), name
        assert COMMANDS.get(name) == command
        assert command.summary.endswith(".") and len(command.summary) <= 62  # one line of 80 columns


def every_command(command, path):
    """Yield every click command below `command`, with what users type."""
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from every_command(subcommand, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


@pytest.mark.parametrize("name", list(BUILTIN))
def test_help_texts_are_complete_and_not_swallowed_as_markup(name):
    """Rich reads "[default: ...]" as markup and prints nothing: use `show_default="..."`."""
    group = typer.main.get_command(cli.build_app([name]))
    for path, command in every_command(vars(group)["commands"][name], f"blemish {name}"):
        assert command.help, path
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            assert parameter.help, f"{path} {parameter.name}"
            assert not re.search(r"(?<!\\)\[default", parameter.help), (
                f"{path} {parameter.name}: {parameter.help}"
            )
            sentence = parameter.help.partition(r" \[default")[0]
            assert sentence.endswith("."), f"{path} {parameter.name}: {parameter.help}"


def test_plugin_command_is_listed_and_runs(plugin, tmp_path):
    env = plugin("blemish_test_count", COUNT)
    overview = blemish("--help", env=env)
    assert "count-files" in overview.stdout and "Count the files of a folder." in overview.stdout
    done = blemish("count-files", tmp_path, env=env)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")
    assert "count-files" not in blemish("--help").stdout


def test_plugin_command_with_the_name_of_a_builtin_is_refused(plugin, tmp_path):
    env = plugin("blemish_test_train", COUNT.replace("count-files", "train"))
    listed = json.loads(blemish("plugins", "--json", env=env).stdout)
    (entry,) = [plugin for plugin in listed["plugins"] if plugin["kind"] == "commands"]
    assert "DuplicateName" in entry["error"] and "train" in entry["error"]
    assert "Count the files" not in blemish("--help", env=env).stdout


def test_plugin_that_fails_is_one_warning_and_other_commands_run(plugin, tmp_path):
    env = plugin("blemish_test_broken", "raise RuntimeError('no such module')\n")
    overview = blemish("--help", env=env)
    assert overview.returncode == 0 and "predict" in overview.stdout
    (line,) = overview.stderr.splitlines()
    assert "blemish_test_broken 1.0" in line and "no such module" in line
    assert blemish("--help", env={**env, "BLEMISH_NO_PLUGINS": "1"}).stderr == ""


def test_plugins_lists_kind_name_target_distribution_and_error(plugin, tmp_path):
    env = plugin("blemish_test_count", COUNT)
    done = blemish("plugins", env=env)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("commands")]
    assert line.split() == [
        "commands", "mine", "blemish_test_count", "blemish_test_count", "1.0",
    ]  # fmt: skip
    document = json.loads(blemish("plugins", "--json", env=env).stdout)
    assert document["schema_version"] == 1
    assert [plugin for plugin in document["plugins"] if plugin["kind"] == "commands"] == [
        {
            "kind": "commands",
            "name": "mine",
            "target": "blemish_test_count",
            "distribution": "blemish_test_count 1.0",
            "error": "",
        }
    ]
    (tmp_path / "site" / "blemish_test_count.py").write_text("import no_such_package\n", "utf-8")
    done = blemish("plugins", env=env)
    assert done.returncode == 1 and "no_such_package" in done.stdout and done.stderr == ""


def test_plugins_without_any(capsys, monkeypatch):
    load_plugins.cache_clear()
    monkeypatch.setenv("BLEMISH_NO_PLUGINS", "1")
    code, out, _ = run(["plugins", "--json"], capsys, monkeypatch)
    load_plugins.cache_clear()
    assert code == 0 and json.loads(out) == {"schema_version": 1, "plugins": []}


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (["info", "gone.onnx", "--json"], "bad-model-file", "gone.onnx"),
        (["info", "--json"], "usage", "FILE"),
        (["predcit", "--json"], "usage", "predict"),
        (["plugins", "--bogus", "--json"], "usage", "--bogus"),
    ],
)
def test_errors_are_json_on_standard_output_too(arguments, code, fact, capsys, monkeypatch):
    exit_code, out, err = run(arguments, capsys, monkeypatch)
    document = json.loads(out)
    assert exit_code == 2
    assert document["schema_version"] == 1 and list(document) == ["schema_version", "error"]
    assert document["error"]["code"].startswith(code)
    assert fact in document["error"]["message"]
    assert err.strip() == f"blemish: {document['error']['message']}"
    plain_code, plain_out, plain_err = run([a for a in arguments if a != "--json"], capsys, monkeypatch)
    assert (plain_code, plain_out) == (2, "") and fact in plain_err


@pytest.mark.parametrize(
    ("raised", "code", "exit_code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (PermissionError(13, "Permission denied", "secret.txt"), "system", 2),
        (ModuleNotFoundError("no torch", name="torch.nn"), "missing-extra", 2),
    ],
)
def test_other_failures_have_a_code(raised, code, exit_code, capsys, monkeypatch):
    def fail(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise raised

    monkeypatch.setattr(Command, "load", lambda self: fail)
    stopped, out, err = run(["plugins", "--json"], capsys, monkeypatch)
    document = json.loads(out)
    assert (stopped, document["error"]["code"]) == (exit_code, code)
    assert document["error"]["message"] in err


def test_an_unexpected_exception_keeps_its_traceback(capsys, monkeypatch):
    def fail(as_json: bool = False) -> None:
        raise ZeroDivisionError("a defect of the program")

    monkeypatch.setattr(Command, "load", lambda self: fail)
    monkeypatch.setattr(sys, "argv", ["blemish", "plugins"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_build_app_sees_a_command_registered_later():
    importlib.import_module("blemish.commands").register_command("later", "blemish.demo:run_demo", "Later.")
    try:
        names = {command.name for command in cli.build_app([]).registered_commands}
    finally:
        COMMANDS.unregister("later")
    assert "later" in names and set(BUILTIN) <= names
