"""Call the automatic annotation function with the unmodified cvat-sdk.

    python -m pip install cvat-sdk==2.80.0
    python bench/compat_cvat_function.py model.onnx photo.jpg

Loads `blemish.contrib.cvat_function` as `cvat-cli` does, and compares its annotations, made
with cvat-sdk's own models and decoded by `cvat_sdk.masks`, with the predictions of the file.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import numpy as np
from PIL import Image

from blemish import load
from blemish.geometry import mask_to_array


def main(model: str, photo: str) -> None:
    import cvat_sdk.auto_annotation as cvataa
    from cvat_sdk.masks import decode_mask

    function = importlib.import_module("blemish.contrib.cvat_function").create(model=model)
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    image = Image.open(photo).convert("RGB")
    expected = load(model).predict(image).filter_scores()
    for polygons in (False, True):
        context = SimpleNamespace(conf_threshold=None, conv_mask_to_poly=polygons, frame_name=photo)
        found = function.detect(context, image)
        kinds = [getattr(annotation, "type", None) for annotation in found]
        print(f"{len(expected)} predictions, annotations: {[str(kind) for kind in kinds][:8]}")
        if polygons and expected.masks is not None:
            continue
        assert [annotation.label_id for annotation in found] == expected.label_index.tolist()
        for row, annotation in enumerate(found):
            if expected.masks is not None:
                decoded = decode_mask(annotation.points, image_width=image.width, image_height=image.height)
                assert np.array_equal(decoded, mask_to_array(expected.masks[row]))
            elif expected.boxes_xyxy is not None:
                np.testing.assert_allclose(annotation.points, expected.boxes_xyxy[row])
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
