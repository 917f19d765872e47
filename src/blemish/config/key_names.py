"""Other names of recipe keys: those of earlier versions of Blemish, and those of other tools."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

SCHEMA_VERSION = 2  # version 1 used the old names of RENAMED_KEYS and RENAMED_VALUES

RENAMED_KEYS: dict[str, str] = {
    "model.weights_licence": "model.weights_license",
    "data.licence": "data.license",
    "data.photo_cache_gb": "data.image_cache_gb",
    "data.split.anew": "data.split.resplit",
    "data.tiles.empty": "data.tiles.empty_ratio",
    "data.tiles.limit_megapixels": "data.tiles.max_megapixels",
    "data.tiles.min_visible": "data.tiles.min_visibility",
    "augmentation.random_resized_crop.min_box_share": "augmentation.random_resized_crop.min_box_visibility",
    "augmentation.zoom_out_side": "augmentation.max_zoom_out",
    "training.accumulate": "training.accumulate_grad_batches",
    "training.clip_gradient": "training.gradient_clip_val",
    "training.optimizer.groups": "training.optimizer.lr_by_stage",
    "training.schedule.final_factor": "training.schedule.min_lr_ratio",
    "training.schedule.min_factor": "training.schedule.min_lr_ratio",
    "training.schedule.rise": "training.schedule.pct_start",
}
RENAMED_OPTIONS: dict[str, str] = {  # of built-in architectures, below `model.options`
    "learned_proposals": "sampled_proposals",
    "min_iou": "match_iou",
    "negatives_a_positive": "neg_pos_ratio",
    "score_floor": "min_score",
    "suppress_iou": "nms_iou",
}
RENAMED_VALUES: dict[str, dict[str, str]] = {"training.schedule.name": {"steps": "multistep"}}

_AUTOMATIC = "; the labels are read from the data, so remove the key"
# The last part of an unknown key: what to write instead, or a sentence that begins with a semicolon.
PEER_KEYS: dict[str, str] = {
    "arch": "model.name",
    "architecture": "model.name",
    "pretrained": "model.weights",
    "freeze": "model.trainable",
    "dropout": "model.head.dropout",
    "image_size": "model.input_size",
    "img_size": "model.input_size",
    "imgsz": "model.input_size",
    "input_size": "model.input_size",
    "classes": _AUTOMATIC,
    "names": _AUTOMATIC,
    "nc": _AUTOMATIC,
    "num_classes": _AUTOMATIC,
    "conf": "model.options.min_score",
    "iou": "model.options.nms_iou",
    "max_det": "model.options.max_detections",
    "dataset": "data.path",
    "data_dir": "data.path",
    "cache": "data.image_cache_gb",
    "val_split": "data.split.fractions",
    "fliplr": "augmentation.horizontal_flip",
    "flipud": "augmentation.vertical_flip",
    "degrees": "augmentation.rotation_degrees",
    "hsv_h": "augmentation.hue",
    "hsv_s": "augmentation.saturation",
    "hsv_v": "augmentation.brightness",
    "scale": "augmentation.scale_jitter",
    "mixup": "augmentation.mixup",
    "cutmix": "augmentation.cutmix",
    "mosaic": "augmentation.mosaic",
    "close_mosaic": "augmentation.close_share",
    "copy_paste": "augmentation.copy_paste",
    "shear": "augmentation.shear_degrees",
    "translate": "augmentation.translate",
    "epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "batch": "training.batch_size",
    "batch_size": "training.batch_size",
    "train_batch_size": "training.batch_size",
    "eval_batch_size": "training.validation_batch_size",
    "val_batch_size": "training.validation_batch_size",
    "patience": "training.patience",
    "early_stopping_patience": "training.patience",
    "seed": "training.seed",
    "amp": "training.precision",
    "num_workers": "training.workers",
    "workers": "training.workers",
    "gradient_accumulation_steps": "training.accumulate_grad_batches",
    "grad_accum_steps": "training.accumulate_grad_batches",
    "clip_grad": "training.gradient_clip_val",
    "max_grad_norm": "training.gradient_clip_val",
    "ema_decay": "training.ema",
    "monitor": "training.monitor",
    "optimizer": "training.optimizer.name",
    "lr": "training.optimizer.learning_rate",
    "lr0": "training.optimizer.learning_rate",
    "learning_rate": "training.optimizer.learning_rate",
    "weight_decay": "training.optimizer.weight_decay",
    "momentum": "training.optimizer.momentum",
    "betas": "training.optimizer.betas",
    "scheduler": "training.schedule.name",
    "lr_scheduler": "training.schedule.name",
    "lrf": "training.schedule.min_lr_ratio",
    "warmup_epochs": "training.schedule.warmup_epochs",
    "loss": "training.loss.name",
    "label_smoothing": "training.loss.label_smoothing",
    "device": "; choose the device with --device",
    "project": "; choose the run's folder with --output",
    "save_dir": "; choose the run's folder with --output",
    "output_dir": "; choose the run's folder with --output",
    "resume": "; resume a run with --resume RUN",
}


class RenamedKeyWarning(UserWarning):
    """A run's recipe uses key names of an earlier version; they were translated."""


def renamed_keys_in(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the old and the new name of every renamed key in nested mappings.

    A renamed value is yielded as `key=value`.

    Example:
        >>> list(renamed_keys_in({"training": {"accumulate": 4}}))
        [('training.accumulate', 'training.accumulate_grad_batches')]
    """
    for old, new in RENAMED_KEYS.items():
        section = _section(values, old)
        if section is not None and old.rpartition(".")[2] in section:
            yield old, new
    for key, names in RENAMED_VALUES.items():
        section = _section(values, key)
        value = None if section is None else section.get(key.rpartition(".")[2])
        if isinstance(value, str) and value in names:
            yield f"{key}={value}", f"{key}={names[value]}"


def translate_run_recipe(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the recipe that a run saved, in today's key names.

    Args:
        values: the recipe as nested mappings, without `schema_version` if it is older than version 2.
        where: the file, for the warning.

    Warns:
        RenamedKeyWarning: keys were translated; one warning for the file.
    """
    out: dict[str, Any] = deepcopy(dict(values))
    if out.get("schema_version", 1) >= SCHEMA_VERSION:
        return out
    out["schema_version"] = SCHEMA_VERSION
    found = [f"{old} -> {new}" for old, new in renamed_keys_in(out)]
    for key, names in RENAMED_VALUES.items():
        section, last = _section(out, key), key.rpartition(".")[2]
        if section is not None and section.get(last) in names:
            section[last] = names[section[last]]
    schedule = _section(out, "training.schedule.name")
    if schedule is not None and {"final_factor", "min_factor"} <= set(schedule):
        # Two keys became one, and each schedule read one of them.
        schedule.pop("final_factor" if schedule.get("name") == "plateau" else "min_factor")
    for old, new in RENAMED_KEYS.items():
        section = _section(out, old)
        if section is not None and old.rpartition(".")[2] in section:
            section[new.rpartition(".")[2]] = section.pop(old.rpartition(".")[2])
    found += _translate_options(out.get("model"), "options", "model.options")
    if found:
        warnings.warn(
            f"{where} was written by an earlier version; its keys were translated: {', '.join(found)}",
            RenamedKeyWarning,
            stacklevel=2,
        )
    return out


def _translate_options(above: Any, key: str, path: str) -> list[str]:
    """Rename architecture options in place, also those of a nested detector; return what was renamed."""
    options = above.get(key) if isinstance(above, dict) else None
    if not isinstance(options, dict):
        return []
    found = []
    for old, new in RENAMED_OPTIONS.items():
        if old in options:
            options[new] = options.pop(old)
            found.append(f"{path}.{old} -> {path}.{new}")
    return found + _translate_options(options, "detector_options", f"{path}.detector_options")


def _section(values: Mapping[str, Any], dotted: str) -> dict[str, Any] | None:
    """Return the mapping that contains the last part of a dotted key, or None."""
    section: Any = values
    for name in dotted.split(".")[:-1]:
        section = section.get(name) if isinstance(section, Mapping) else None
    return section if isinstance(section, dict) else None
