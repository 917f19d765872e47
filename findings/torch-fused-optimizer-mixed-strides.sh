#!/usr/bin/env bash
# Surprise: on a CPU, `torch.optim.AdamW(..., fused=True)` reads a parameter and its gradient as flat memory. If the gradient
# has another memory format than the parameter (channels-last and contiguous), each element is updated with the gradient of
# another one, without an error or a warning; the loop over the parameters and `foreach=True` handle the same input correctly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

print("python", sys.version.split()[0], "torch", torch.__version__)
torch.manual_seed(0)
values, gradient = torch.randn(2, 4, 3, 3, 3)


def step(**options):
    parameter = torch.nn.Parameter(values.contiguous(memory_format=torch.channels_last).clone())
    parameter.grad = gradient.clone()  # the same shape and values, contiguous
    torch.optim.AdamW([parameter], 0.1, **options).step()
    return parameter.detach()


expected = step(foreach=False)
foreach = float((step(foreach=True) - expected).abs().max())
fused = float((step(fused=True) - expected).abs().max())
print("largest difference from the loop: foreach", foreach, "fused", round(fused, 3))
if foreach > 1e-6 or fused < 0.01:
    print("the behavior has changed")
    sys.exit(1)
PYTHON
