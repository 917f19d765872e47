"""Call a running service with the unmodified client of Triton, in an environment of its own.

    blemish serve --model car=model.onnx
    python bench/compat_open_inference.py http://127.0.0.1:8000 car photo.jpg

Compares scores and boxes of BYTES and UINT8 tensors with those of `/api/v1/predict`, reloads the model, and
exits with 1 if a call fails or differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("tritonclient[http]==2.73.0", "pillow", "requests")
PROGRAM = """
import io, json, sys
import numpy as np, requests
from PIL import Image, ImageOps
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, name, path = sys.argv[1:]
client = triton.InferenceServerClient(address.removeprefix("http://"))
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
print(client.get_server_metadata()["extensions"])
metadata = client.get_model_metadata(name)
version = metadata["versions"][0]
assert client.is_model_ready(name, version)
data = open(path, "rb").read()
expected = requests.post(f"{address}/api/v1/predict?model={name}", files={"image": data}).json()
scores = [row["score"] for row in expected["labels"]]

def infer(array, datatype, binary):
    tensor = triton.InferInput("image", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput(o["name"], binary_data=binary) for o in metadata["outputs"]]
    result = client.infer(name, [tensor], model_version=version, request_id="7", outputs=outputs)
    assert result.get_response()["parameters"]["model_digest"] == expected["model_digest"]
    np.testing.assert_allclose(result.as_numpy("label_scores")[0], scores, rtol=1e-5)
    if expected["detections"] is not None:
        boxes = [row["box_xyxy"] for row in expected["detections"]]
        np.testing.assert_allclose(result.as_numpy("boxes")[0], np.reshape(boxes, (-1, 4)), atol=0.02)
        assert result.as_numpy("num_detections")[0] == len(boxes)
    body = json.loads(result.as_numpy("json")[0])
    assert body["labels"] == expected["labels"]

infer(np.array([data], object), "BYTES", True)
pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
infer(pixels[None], "UINT8", True)
infer((pixels[None] / 255).astype(np.float32), "FP32", True)
if pixels.size < 1_000_000:
    infer(pixels[None], "UINT8", False)
client.load_model(name)
assert any(row["name"] == name and row["state"] == "READY" for row in client.get_model_repository_index())
try:
    client.infer("no-such-model", [triton.InferInput("image", [1], "BYTES").set_data_from_numpy(
        np.array([data], object))])
    raise AssertionError("an unknown model was accepted")
except InferenceServerException as error:
    print(error.status(), error.message())
print("equal")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        sys.exit(subprocess.run([python, "-c", PROGRAM, *sys.argv[1:]], check=False).returncode)


if __name__ == "__main__":
    main()
