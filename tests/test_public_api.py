"""The names of `import blemish`: complete, typed, lazy, and the same objects as in their packages."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish import api, errors
from blemish.explanation import Explainer
from blemish.inference import load

SOURCE = ast.parse(Path(blemish.__file__).read_text(encoding="utf-8"))


def typed_imports():
    """Return {name: module} of the imports that type checkers read."""
    (block,) = [
        node for node in SOURCE.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]  # fmt: skip
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}


@pytest.mark.parametrize("name", [n for n in blemish.__all__ if n != "__version__"])
def test_name_is_what_type_checkers_see(name):
    assert getattr(blemish, name) is getattr(import_module(typed_imports()[name]), name)
    assert inspect.getdoc(getattr(blemish, name))


def test_all_is_complete_and_sorted():
    assert sorted(blemish.__all__) == blemish.__all__
    assert set(blemish.__all__) - {"__version__"} == set(typed_imports())
    listed = {name for names in blemish._HOMES.values() for name in names}
    classes = {
        n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.BlemishError)
    }
    assert listed | classes | {"__version__"} == set(blemish.__all__)
    assert set(blemish.__all__) <= set(dir(blemish))


def test_no_public_name_is_also_a_submodule():
    """Importing a submodule would replace the function of the same name."""
    submodules = {path.stem for path in Path(blemish.__file__).parent.iterdir()}
    assert not submodules & set(blemish.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="evalute"):
        _ = getattr(blemish, "evalute")  # noqa: B009


@pytest.mark.parametrize("name", [n for n in blemish.__all__ if inspect.isfunction(getattr(blemish, n))])
def test_function_has_no_untyped_or_variable_arguments(name):
    signature = inspect.signature(getattr(blemish, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation not in (inspect.Parameter.empty, "Any"), parameter
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL), parameter
        if parameter.default is not parameter.empty and name != "create_app":
            assert parameter.kind is parameter.KEYWORD_ONLY or parameter.name == "recipe", parameter


def test_train_has_the_signature_of_training():
    from blemish.training import run

    assert inspect.signature(blemish.train) == inspect.signature(run.train)


def without(function, *names):
    """Return {name: (default, annotation)} of a function's parameters, except `names`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.default, p.annotation) for p in parameters if p.name not in names}


def test_export_model_has_the_options_of_reexport():
    from blemish.export.reexport import reexport

    assert without(api.export_model) == without(reexport, "format", "progress")


def test_predict_and_explain_have_the_options_of_what_they_call():
    loading = without(load, "path", "spinning", "limits")
    assert {k: v for k, v in without(api.predict).items() if k in loading} == loading
    del loading["check_capture"]  # a heatmap states nothing about the image
    explaining = without(Explainer.explain, "self", "image", "progress")
    own = without(api.explain, "model", "source", *loading)
    assert {k: v for k, v in without(api.explain).items() if k in loading} == loading
    assert own == explaining


def test_predict_equals_the_predictor(tmp_path, tiny):
    from PIL import Image

    tiny.write_scores_model(tmp_path / "m.onnx")
    Image.new("RGB", (30, 20), (9, 90, 200)).save(tmp_path / "a.png")
    one = blemish.predict(tmp_path / "m.onnx", tmp_path / "a.png")
    other = blemish.load(tmp_path / "m.onnx").predict(tmp_path / "a.png")
    assert one.to_dict() == other.to_dict()


def test_explain_equals_the_explainer(tmp_path, tiny):
    from PIL import Image

    tiny.write_scores_model(tmp_path / "m.onnx")
    Image.new("RGB", (30, 20), (9, 90, 200)).save(tmp_path / "a.png")
    options: dict[str, Any] = {"method": "occlusion", "max_evals": 10, "faithfulness": False}
    (one,) = blemish.explain(tmp_path / "m.onnx", tmp_path / "a.png", **options)
    predictor = blemish.load(tmp_path / "m.onnx")
    explainer = Explainer(predictor.backend, predictor.model_file)
    (other,) = explainer.explain(tmp_path / "a.png", **options)
    assert one.label == other.label and (one.values == other.values).all()


@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        ("()", "('torch', 'numpy', 'PIL', 'typer', 'onnxruntime', 'pydantic', 'yaml')"),
        ("('Task', 'Prediction', 'BadImage', 'load', 'predict', 'train', 'evaluate')", "('torch', 'typer')"),
    ],
)
def test_import_is_lazy(names, heavy):
    script = (
        f"import sys, blemish\nfor name in {names}: getattr(blemish, name)\n"
        f"sys.exit(str([n for n in {heavy} if n in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_api_page_documents_every_public_name():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    for path in documented:
        assert pkgutil.resolve_name(path) is not None
    names = {path.rpartition(".")[2] for path in documented}
    if "blemish.errors" in documented:
        names |= set(vars(errors))
    assert set(blemish.__all__) - names == {"__version__"}
