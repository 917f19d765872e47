"""With `--json`, every command prints documents with a schema version and nothing else on standard output."""

import json
import sys

import numpy as np
import pytest
import typer
from PIL import Image

from blemish import cli
from blemish.commands import BUILTIN
from blemish.commands.json_output import SCHEMA_VERSION
from blemish.data.synthetic import modules, save_image
from blemish.model_file import FamiliaritySpec, read_graph, read_model_file, write_model_file
from blemish.model_file.familiarity_spec import encode_array

VERSIONS = {"predict": 2}
TRAIN = "train --data photos --model resnet18 --weights none --epochs 1 --output run --json"
EVALUATE = "evaluate --model model.onnx --data photos"
OCCLUSION = "--method occlusion --max-evals 16"
SHORT = "--set model.input_size=32 --set training.batch_size=4 --set training.tensorboard=false"
SPACE = """
model: {name: resnet18, weights: none, input_size: 32}
training: {epochs: 1, batch_size: 4, tensorboard: false, workers: 0}
tune: {trials: 1, space: {training.optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}}}
"""
# Every command that has --json, with arguments; a command that is missing here fails the first test.
CASES = {
    "data check": "data check photos --json",
    "data check --fix": "data check photos --fix --output fixed --json",
    "data stats": "data stats photos --json",
    "data convert": "data convert photos --output converted --to csv --json",
    "data split": "data split photos --output divided --json",
    "data merge": "data merge photos photos2 --output merged --json",
    "data synthesize": "data synthesize vehicles --count 4 --size 32 --output drawn --json",
    "data next": "data next photos --model model.onnx --count 2 --json",
    "predict": "predict photos --model model.onnx --json",
    "evaluate": f"{EVALUATE} --json",
    "evaluate --sample": f"{EVALUATE} --sample dented/0.png --output shown --json",
    "calibrate": "calibrate --model model.onnx --data photos --output calibrated.onnx --json",
    "drift": "drift photos --model familiar.onnx --permutations 99 --json",
    "explain": f"explain photos/fine/0.png --model model.onnx --output heat {OCCLUSION} --json",
    "benchmark": "benchmark photos --model model.onnx --count 2 --backend onnxruntime --json",
    "compare": "compare model.onnx other.onnx --data photos --json",
    "info": "info model.onnx --json",
    "models": "models --json",
    "models NAME": "models resnet18 --json",
    "config list": "config list --json",
    "config show": "config show solar-defective --json",
    "plugins": "plugins --json",
    "train": f"{TRAIN} {SHORT}",
    "tune": "tune --recipe space.yaml --data photos --output study --json",
    "export": "export run --precision fp16 --force --json",
    "inspections create": "inspections create car --store store --json",
    "inspections add": "inspections add ID photos/fine/0.png --model model.onnx --store store --json",
    "inspections module": "inspections module module.png --model model.onnx --normal fine --json",
    "inspections scale": "inspections scale board.png --field 10 --json",
    "inspections show": "inspections show ID --store store --json",
    "inspections list": "inspections list --store store --json",
    "inspections review": "inspections review FINDING accept --store store --json",
    "inspections compare": "inspections compare ID --previous PREVIOUS --store store --json",
    "inspections export": "inspections export PREVIOUS --to folders --task classification --output labels"
    " --store store --json",
    "inspections report": "inspections report ID --output report.csv --store store --json",
    "inspections verify-report": "inspections verify-report first.csv --store store --json",
    "inspections verify": "inspections verify --store store --json",
    "inspections backup": "inspections backup --output backup --store store --json",
    "inspections restore": "inspections restore first --store store2 --json",
}


def commands_with_json(command, path):
    """Yield what users type for every command below `command` that has the option --json."""
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from commands_with_json(subcommand, f"{path} {name}".strip())
    if any("--json" in parameter.opts for parameter in command.params):
        yield path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny):
    root = tmp_path_factory.mktemp("json")
    for name in ("model.onnx", "other.onnx"):
        tiny.write_scores_model(root / name, labels=("dented", "fine"))
    file = read_model_file(root / "model.onnx")  # its scores serve as features
    spec = FamiliaritySpec(
        output=file.contract.outputs[0].name,
        dimensions=2,
        train_images=9,
        distances=(1.0, 2.0),
        reference=encode_array(np.eye(2)),
        reference_scores=encode_array(np.eye(2)),
    )
    contract = file.contract.model_copy(update={"familiarity": spec})
    write_model_file(root / "familiar.onnx", read_graph(file.path), contract)
    (root / "space.yaml").write_text(SPACE)
    save_image(next(modules(1, size=700)).image, root / "module.png")
    board = np.kron(np.indices((7, 9)).sum(0) % 2, np.ones((20, 20))).astype(np.uint8) * 200
    Image.fromarray(np.pad(board, 20, constant_values=100)).save(root / "board.png")
    for data in ("photos", "photos2"):
        for k, label in enumerate(("dented", "fine")):
            (root / data / label).mkdir(parents=True)
            for i in range(4):
                color = (60 * i, 90 * k, 200 if data == "photos" else 0)
                Image.new("RGB", (40, 40), color).save(root / data / label / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def stored(folder):
    """Ids of two inspections and of a finding in a store, beside a report and a backup of it."""
    pytest.importorskip("sqlalchemy")
    from blemish.inspections.finding_records import NewFinding
    from blemish.inspections.maintenance import back_up
    from blemish.inspections.report_writer import write_report
    from blemish.inspections.store import InspectionStore

    with InspectionStore.open(folder / "store", create=True) as store:
        asset = store.assets.create("free", "car")
        previous, current = (store.inspections.create(asset.id) for _ in range(2))
        image = store.images.add(previous.id, folder / "photos" / "dented" / "0.png")
        finding = store.reviews.add(previous.id, NewFinding(image_id=image.id, label="dented"))
        (folder / "first.csv").write_bytes(write_report(store, current.id, "csv")[1])
        back_up(store, folder / "first")
    return {"PREVIOUS": previous.id, "ID": current.id, "FINDING": finding.id}


def test_cases_cover_every_command_with_json():
    found = set()
    for name in BUILTIN:
        found |= set(
            commands_with_json(vars(typer.main.get_command(cli.build_app([name])))["commands"][name], name)
        )
    assert found == {
        " ".join(word for word in case.split() if word.islower() and word[0] != "-") for case in CASES
    }


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c in ("train", "tune", "export") else c for c in CASES],
)
def test_documents_have_a_schema_version(case, folder, request, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    ids = request.getfixturevalue("stored") if case.startswith("inspections") else {}
    monkeypatch.setattr(sys, "argv", ["blemish", *(ids.get(word, word) for word in CASES[case].split())])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    assert exit_.value.code in (0, 1), err
    try:
        documents = [json.loads(out)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in out.splitlines()]
    assert documents
    for document in documents:
        assert document["schema_version"] == VERSIONS.get(case, SCHEMA_VERSION), document
        assert "error" not in document
