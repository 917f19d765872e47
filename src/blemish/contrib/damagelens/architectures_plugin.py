"""Entry point `blemish.architectures`: register the tensor names of DamageLens checkpoints."""

from __future__ import annotations

from blemish.config.checkpoint_names import register_checkpoint_names

register_checkpoint_names("fusion", "blemish.contrib.damagelens.fusion_checkpoint:fusion_tensor_names")
