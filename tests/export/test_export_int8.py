"""`export --precision int8` of a drawn network, from calibration to the certificates; without torch."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.export.drawn_cnn import cnn_graph, drawn_images, write_cnn

from blemish.commands.info_command import summary_rows
from blemish.data import open_dataset
from blemish.errors import BadDataset
from blemish.evaluation import evaluate
from blemish.explanation.gradient_graph import GradientGraph, explanation_path, set_explanation_facts
from blemish.export.int8 import Int8Graph
from blemish.export.reexport import reexport
from blemish.inference import load
from blemish.model_file import read_graph, read_model_file, write_model_file
from blemish.testing import raises

pytestmark = pytest.mark.usefixtures("tiny_graphs_are_mostly_names")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn_images(tmp_path_factory.mktemp("data") / "images")


def test_reexport_int8_is_certified_for_each_backend(tmp_path, data):
    source = write_cnn(tmp_path / "model.onnx")
    facts = {"graph_digests": [source.graph_digest], "layers": ["a"], "output_count": 2}
    explanation_path(source.path).write_bytes(set_explanation_facts(cnn_graph(), facts))
    steps = []
    made = reexport(source.path, precision="int8", data=data, progress=lambda *step: steps.append(step))
    assert made.path == tmp_path / "model-int8.onnx"
    proof = made.contract.certificate
    assert proof.passed and proof.precision == "int8" and proof.images == 24 and not proof.decisions_changed
    assert proof.backend.startswith("onnxruntime") and proof.cpu_capability
    assert proof.graph_digest == made.graph_digest != source.graph_digest
    assert 0 < proof.max_difference < 0.1
    assert proof.metric_before == proof.metric_after == 1
    quantization = made.contract.training["quantization"]
    assert quantization["calibration_images"] == 24 and quantization["layers"] == 4
    assert ("measuring activations", 24, 24) in steps
    assert GradientGraph(made).output_count == 2
    predictor = load(made.path, backend="certified")
    assert predictor.backend.precision == "int8" and predictor.warnings == ()
    report = evaluate(made.path, open_dataset(data), intervals=False)
    assert report.value("accuracy") == 1
    assert "of 4 layers" in dict(summary_rows(made))["quantization"]


def test_int8_of_another_backend_has_its_own_certificate(tmp_path, data, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.delenv("BLEMISH_CERTIFY_BACKENDS", raising=False)
    made = reexport(write_cnn(tmp_path / "model.onnx").path, precision="int8", data=data)
    (other,) = made.contract.other_certificates
    assert other.backend.startswith("openvino") and other.precision == "int8"
    assert other.graph_digest == made.graph_digest
    assert load(made.path, backend="openvino").warnings == ()
    # without its certificate, the same file warns
    contract = made.contract.model_copy(update={"other_certificates": ()})
    lonely = write_model_file(tmp_path / "lonely.onnx", read_graph(made.path), contract)
    assert "openvino in int8" in load(lonely.path, backend="openvino").warnings[-1]


def test_reexport_int8_refuses_images_that_cannot_be_read_and_foreign_labels(tmp_path, data):
    source = write_cnn(tmp_path / "model.onnx").path
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"no image")
    with raises("bad-input.no-images", "--data"):
        reexport(source, precision="int8", data=broken)
    for name in ("cat", "dog"):
        shutil.copytree(
            next(x for x in data.rglob("*") if x.is_dir() and list(x.glob("*.png"))), broken / name
        )
    steps = []
    with raises("bad-input.label-not-in-model", broken, "'cat'"):
        reexport(source, precision="int8", data=broken, progress=lambda *step: steps.append(step))
    assert steps == [], "refused before the work"


def turned(build):
    """Return a build whose graphs swap the two labels."""

    def build_turned(self, float_layers=()):
        model = onnx.load_from_string(build(self, float_layers))
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if tensor.name in ("w5", "b5"):
                tensor.CopyFrom(numpy_helper.from_array(values[..., ::-1].copy(), tensor.name))
        return model.SerializeToString()

    return build_turned


def test_reexport_int8_names_the_images_with_changed_decisions(tmp_path, data, monkeypatch, caplog):
    monkeypatch.setattr(Int8Graph, "build", turned(Int8Graph.build))
    source = write_cnn(tmp_path / "model.onnx")
    target = tmp_path / "model-int8.onnx"
    with raises("export-refused.not-certified", target, "24 images", "dented/0.png", "14 more", "--force"):
        reexport(source.path, precision="int8", data=data, max_drop=1)
    assert not target.exists()
    allowed = reexport(source.path, precision="int8", data=data, max_drop=1, max_changed=1)
    assert allowed.contract.certificate.passed and allowed.contract.certificate.decisions_changed == 24
    assert "dented/0.png" in caplog.text
    forced = reexport(source.path, precision="int8", data=data, max_changed=1, force=True)
    assert not forced.contract.certificate.passed
    assert not forced.contract.other_certificates
    assert "macro_f1" in forced.contract.certificate.reasons[0]
    assert "did not pass" in load(forced.path).warnings[0]


def test_reexport_int8_returns_layers_to_float(tmp_path, data, monkeypatch):
    """The second layer is damaged whenever it is quantized."""
    build = Int8Graph.build

    def damaged(self, float_layers=()):
        graph = build(self, float_layers)
        return graph if self.layers[1].name in float_layers else turned(build)(self, float_layers)

    monkeypatch.setattr(Int8Graph, "build", damaged)
    made = reexport(write_cnn(tmp_path / "model.onnx").path, precision="int8", data=data)
    assert made.contract.certificate.passed
    assert made.contract.training["quantization"]["float_layers"] == 3  # and stem and head


def test_reexport_int8_refuses_an_int8_source_and_its_own_path(tmp_path, data):
    source = write_cnn(tmp_path / "model.onnx")
    made = reexport(source.path, precision="int8", data=data)
    for precision in ("int8", "fp16"):
        with raises("bad-input.not-fp32", "int8"):
            reexport(made.path, precision=precision, data=data, output=tmp_path / "again.onnx")
    with raises("bad-input.output-is-source"):
        reexport(source.path, precision="int8", data=data, output=source.path)


def test_reexport_takes_the_split_of_the_run_for_its_data(tmp_path, data):
    source = write_cnn(tmp_path / "model.onnx")
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    rows = [f"{name},{'val' if i % 2 else 'test'}" for i, name in enumerate(names)]
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *rows]) + "\n")
    assert reexport(source.path, precision="int8", data=data).contract.certificate.images == 12
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *rows[:-1]]) + "\n")  # of other images
    assert reexport(source.path, precision="int8", data=data).contract.certificate.images == 24


def test_export_int8_on_the_command_line_does_not_import_torch(tmp_path, data):
    source = write_cnn(tmp_path / "model.onnx")
    program = (
        "import sys, blemish.export.int8 as int8, blemish.cli as cli; int8.MAX_SIZE_SHARE = 2; "
        f"sys.argv = ['blemish', 'export', {str(source.path)!r}, '--precision', 'int8']\n"
        f"sys.argv += ['--data', {str(data)!r}]\n"
        "try: cli.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "int8" in done.stdout and "measuring activations 24 of 24" in done.stderr
    assert (tmp_path / "model-int8.onnx").is_file()


def test_int8_file_predicts_any_batch(tmp_path, data):
    made = reexport(write_cnn(tmp_path / "model.onnx").path, precision="int8", data=data)
    paths = sorted(data.rglob("*.png"))
    alone = [result.prediction.label_scores for result in load(made.path).stream(paths)]
    together = [result.prediction.label_scores for result in load(made.path).stream(paths, 7)]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert read_model_file(made.path).contract.certificate.passed


def test_reexport_int8_compares_images_without_labels(tmp_path, data):
    (tmp_path / "images").mkdir()
    for i, path in enumerate(sorted(data.rglob("*.png"))):
        (tmp_path / "images" / f"{i}.png").write_bytes(path.read_bytes())
    source = write_cnn(tmp_path / "model.onnx")
    proof = reexport(source.path, precision="int8", data=tmp_path / "images").contract.certificate
    assert proof.passed and proof.images == 24 and proof.metric == "" and proof.metric_before is None
    (tmp_path / "images" / "labels.csv").write_text("filename,label\nabsent.png,fine\n")
    with pytest.raises(BadDataset):  # damaged labels are no missing labels
        reexport(source.path, precision="int8", data=tmp_path / "images")
