"""Find the mask file of each image by the names of folders and files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.data.folder_names import words_of
from blemish.data.image_index import ImageIndex, split_of_folders
from blemish.data.split_names import split_named

MASK_WORDS = frozenset(
    {
        *("mask", "masks", "label", "labels", "lab", "labs", "lbl", "lbls", "gt", "gts", "groundtruth"),
        *(
            "annotation",
            "annotations",
            "annot",
            "annots",
            "ann",
            "anns",
            "anno",
            "annos",
            "target",
            "targets",
        ),
        *("seg", "segs", "segmentation", "segmentations", "truth", "matte", "mattes", "output", "outputs"),
    }
)
IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "input", "inputs", "rgb", "original", "originals", "photo", "photos"}
)
# Words that do not distinguish a folder of masks from that of its images.
NEUTRAL_WORDS = frozenset(
    {"class", "object", "binary", "color", "jpeg", "jpg", "png", "ground", "data", "all"}
)
MEDICAL_SPLITS = frozenset({"tr", "ts"})  # of nnU-Net: imagesTr next to labelsTr
MASK_ENDING = re.compile(
    r"[ _.-]?(?:mask|masks|label|labels|lbl|lab|gt|seg|segmentation|annotation|matte|ground_?truth"
    r"|labelids|instance|semantic)$",
    re.IGNORECASE,
)
IMAGE_ENDING = re.compile(r"[ _.-](?:image|img|rgb|sat|leftimg8bit|photo)$", re.IGNORECASE)
INSTANCE_FOLDER = "segmentationobject"  # of VOC; the labels are in SegmentationClass
MIN_SHARE_PAIRED = 0.5  # of the mask files that must have an image

Key = tuple[str, ...]


@dataclass(frozen=True)
class MaskPairs:
    """Images with their masks.

    Attributes:
        pairs: image -> mask.
        splits: image -> train, val, test or None.
        images_without_mask: images that have none.
        masks_without_image: masks that have none.
        in_folders: whether the masks are in folders of their own.
        repeated: two masks of one image each.
        left_out: number of files in folders of instances, whose labels another folder contains.
    """

    pairs: dict[Path, Path]
    splits: dict[Path, str | None]
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    in_folders: bool = False
    left_out: int = 0
    repeated: tuple[tuple[str, str], ...] = ()

    @property
    def is_data_set(self) -> bool:
        """Whether most of the masks have an image; if they are next to images, most images have one too."""
        masks = len(self.pairs) + len(self.masks_without_image)
        images = len(self.pairs) + len(self.images_without_mask)
        enough = len(self.pairs) >= MIN_SHARE_PAIRED * masks
        return (
            bool(self.pairs) and enough and (self.in_folders or len(self.pairs) >= MIN_SHARE_PAIRED * images)
        )


def find_mask_pairs(index: ImageIndex) -> MaskPairs:
    """Return the masks of the images below a folder.

    A mask is in a folder such as `masks` next to `images`, above or below split folders, or it has the stem
    of an image with an ending such as `_label`.

    Args:
        index: the image files, masks included.
    """
    images: dict[Key, str] = {}
    masks: dict[Key, str] = {}
    candidates: dict[Key, str] = {}
    same_key: list[str] = []
    repeated: list[tuple[str, str]] = []
    left_out = 0
    for name in index.files:
        key, is_mask, is_instance = _key(name)
        if is_instance:
            left_out += 1
        elif is_mask:
            repeated += [(masks[key], name)] if key in masks else []
            masks.setdefault(key, name)
        elif key in candidates:
            same_key.append(name)
        else:
            candidates[key] = name
    in_folders = bool(masks)
    for key, name in candidates.items():
        ending = MASK_ENDING.search(key[-1])
        plain = (*key[:-1], key[-1][: ending.start()]) if ending else None
        if plain is not None and plain in candidates:
            repeated += [(masks[plain], name)] if plain in masks else []
            masks.setdefault(plain, name)
        else:
            images[key] = name
    pairs, paired = {}, set()
    for key, name in images.items():
        found = next((k for k in _mask_keys(key) if k in masks), None)
        if found is not None:
            pairs[index.files[name]] = index.files[masks[found]]
            paired.add(found)
    endings = {(*k[:-1], MASK_ENDING.sub("", k[-1])): k for k in masks if k not in paired}
    for key, name in images.items():
        found = next((k for k in _mask_keys(key) if k in endings), None)
        if index.files[name] not in pairs and found is not None:
            pairs[index.files[name]] = index.files[masks[endings[found]]]
            paired.add(endings[found])
    unpaired = [n for n in images.values() if index.files[n] not in pairs]
    return MaskPairs(
        pairs,
        {index.files[n]: split_of_folders(n) for n in images.values()},
        tuple(index.files[n] for n in (*unpaired, *same_key)),
        tuple(index.files[n] for k, n in masks.items() if k not in paired),
        in_folders,
        left_out,
        tuple(repeated),
    )


def _key(name: str) -> tuple[Key, bool, bool]:
    """Return what an image and its mask have in common, and whether the file is a mask, of instances."""
    path = PurePosixPath(name)
    key: list[str] = []
    is_mask = is_instance = False
    for part in path.parts[:-1]:
        words = words_of(part)
        role = [w for w in words if w in MASK_WORDS or w in IMAGE_WORDS]
        rest = [w for w in words if w not in role and not (role and (w in NEUTRAL_WORDS or w.isdecimal()))]
        if len(words) > 1 and any(
            split_named(w) is None and w not in NEUTRAL_WORDS and w not in MEDICAL_SPLITS for w in rest
        ):
            # A name such as "lab samples" does not describe a layout.
            key.append(part)
            continue
        is_mask = is_mask or any(w in MASK_WORDS for w in role)
        is_instance = is_instance or "".join(words) == INSTANCE_FOLDER
        if rest:
            key.append(" ".join(rest))
    return (*key, path.stem), is_mask, is_instance


def _mask_keys(key: Key) -> tuple[Key, ...]:
    """Return the keys under which the mask of an image may be: with its stem, or without an ending of it."""
    ending = IMAGE_ENDING.search(key[-1])
    return (key,) if ending is None else (key, (*key[:-1], key[-1][: ending.start()]))
