"""A FastAPI server written as DamageLens' is: eager torch, inside the event loop, at torch's best settings.

These are inference mode, the channels-last memory format and as many threads as cores.

Arguments: torchvision's name of the model, its state, a port.

OpenMP's threads sleep while they wait: spinning would count as CPU time on a machine with other programs.
"""

import io
import os
import sys

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch is imported

import torch
import torchvision
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from torchvision import transforms

name, state, port = sys.argv[1:]
model = getattr(torchvision.models, name)(num_classes=6)
model.load_state_dict(torch.load(state, weights_only=True))
model.eval().to(memory_format=torch.channels_last)
torch.set_num_threads(len(os.sched_getaffinity(0)))
transform = transforms.Compose(
    [
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
labels = ["Front Breakage", "Front Crushed", "Front Normal", "Rear Breakage", "Rear Crushed", "Rear Normal"]
app = FastAPI()


@app.post("/predict")
async def predict(image: UploadFile = File(...)):  # noqa: B008  (as FastAPI has it)
    pixels = Image.open(io.BytesIO(await image.read())).convert("RGB")
    with torch.inference_mode():
        batch = transform(pixels).unsqueeze(0).contiguous(memory_format=torch.channels_last)
        scores = torch.softmax(model(batch), 1)[0]
    ranked = sorted(zip(labels, scores.tolist(), strict=True), key=lambda pair: -pair[1])
    return {"status": "success", "prediction": {label: round(score, 4) for label, score in ranked}}


@app.get("/ready")
async def ready():
    return {}


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")
