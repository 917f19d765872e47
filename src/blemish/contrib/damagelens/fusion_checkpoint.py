"""Tensor names in DamageLens checkpoints of the fusion network."""

from __future__ import annotations

from blemish.models.architectures.fusion import hugging_face_key


def fusion_tensor_names(tensor: str) -> tuple[str, ...]:
    """Return the name of a tensor of `fusion` in a DamageLens checkpoint.

    Its `eff_features` has torchvision's keys, its `cnx_backbone` those of Hugging Face's ConvNextModel.

    Example:
        >>> fusion_tensor_names("convnext.0.1.bias"), fusion_tensor_names("head.1.weight")
        (('cnx_backbone.embeddings.layernorm.bias',), ('fusion_head.1.weight',))
    """
    part, _, rest = tensor.partition(".")
    if part == "efficientnet":
        return (f"eff_features.{rest}",)
    if part == "convnext":
        return (f"cnx_backbone.{hugging_face_key(rest)}",)
    if part == "convnext_norm":
        return (f"cnx_backbone.layernorm.{rest}",)
    return (f"fusion_head.{rest}",)
