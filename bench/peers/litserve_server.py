"""LitServe with the same ONNX file, batched as in its documentation.

Arguments: the file, a port, threads.
"""
# ruff: noqa: D101, D102

import io
import sys

import litserve
import numpy as np
import onnxruntime
from PIL import Image

file, port, threads = sys.argv[1:]
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Classifier(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(threads)
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def decode_request(self, request):
        data = request["image"].file.read()
        pixels = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        return ((np.asarray(pixels, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, batch):
        logits = self.session.run(None, {self.input: batch})[0]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"scores": output.tolist()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=8, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False)
