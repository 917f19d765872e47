"""The developers' requirements without CUDA contain everything else, and follow `requirements/dev.txt`."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_cpu_lock", ROOT / "tools" / "make_cpu_lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cpu_lock_is_up_to_date(tool):
    rest, torch = tool.without_cuda((ROOT / "requirements" / "dev.txt").read_text("utf-8"))
    assert (ROOT / "requirements" / "dev-cpu.txt").read_text("utf-8") == rest, "run tools/make_cpu_lock.py"
    assert (ROOT / "requirements" / "torch-cpu.txt").read_text("utf-8") == torch
    assert "nvidia" not in rest and "torchmetrics==" in rest and "--hash" in rest


def test_without_cuda_keeps_every_entry_of_a_package(tool):
    text = (
        "numpy==1 ; python_version < '3.12' \\\n    --hash=sha256:aa\n"
        "numpy==2 ; python_version >= '3.12' \\\n    --hash=sha256:bb\n"
        "nvidia-cublas==13 \\\n    --hash=sha256:cc\n"
        "torch==2.15.0 \\\n    --hash=sha256:dd\n"
        "torchmetrics==1 \\\n    --hash=sha256:ee\n"
        "torchvision==0.29.2 \\\n    --hash=sha256:ff\n"
        "triton==3 \\\n    --hash=sha256:11\n"
        "uvicorn[standard]==1 \\\n    --hash=sha256:22\n"
    )
    rest, torch = tool.without_cuda(text)
    assert [name for name, _ in tool.blocks(rest)] == ["numpy", "numpy", "torchmetrics", "uvicorn"]
    assert rest.count("--hash") == 4
    assert torch == "torch==2.15.0\ntorchvision==0.29.2\n"
