"""Folder names that describe the layout of a data set and are never labels."""

from __future__ import annotations

import re

from blemish.data.split_names import split_named

# A folder named after one of these words contains images, masks or annotations, not the images of one label.
LAYOUT_WORDS = frozenset(
    {
        *("image", "images", "img", "imgs", "jpegimages", "input", "inputs", "output", "outputs"),
        *("mask", "masks", "label", "labels", "lbl", "lbls", "target", "targets", "gt", "gts"),
        *("annotation", "annotations", "annot", "annots", "ann", "anns", "anno", "annos", "groundtruth"),
        *("seg", "segs", "segmentation", "segmentations", "segmentationclass", "segmentationobject"),
        *("xml", "xmls", "json", "jsons", "bbox", "bboxes", "trainval", "dataset", "datasets"),
        *(
            "fold",
            "folds",
            "batch",
            "batches",
            "depth",
            "thumb",
            "thumbs",
            "thumbnails",
            "preview",
            "previews",
        ),
        *("augmented", "unlabeled", "unlabelled"),
    }
)
# Words that belong to the name of a layout folder only next to one of the words above.
COMPANION_WORDS = frozenset(
    {
        *("a", "b", "x", "y", "tr", "ts", "all", "new", "final", "rgb", "gray", "grey", "color", "raw"),
        *("data", "set", "folder", "dir", "files", "list", "lists", "txt", "png", "jpg", "jpeg", "original"),
        *("resized", "class", "object", "instance", "binary", "multi", "main", "default", "ground", "truth"),
        *("lab", "labs", "obj", "coco", "voc", "yolo", "labelme", "supervisely", "via", "meta", "classes"),
    }
)
TOOL_FOLDERS = frozenset(
    {"__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information", "thumbnails"}
)
SUPERVISELY_FOLDER = re.compile(r"ds\d+")
IMAGE_SIZE = re.compile(r"\d{2,5}\s?[xX]\s?\d{2,5}")
NUMBERED_LABEL = re.compile(r"label[ _-]?\d+", re.IGNORECASE)


def is_tool_folder(name: str) -> bool:
    """Return whether programs create a folder of that name on their own.

    Example:
        >>> is_tool_folder("__pycache__"), is_tool_folder(".ipynb_checkpoints"), is_tool_folder("dent")
        (True, True, False)
    """
    return name.startswith((".", "__MACOSX")) or name.casefold() in TOOL_FOLDERS


def words_of(name: str) -> list[str]:
    """Return the words of a folder name in lower case, numbers apart.

    Example:
        >>> words_of("JPEGImages"), words_of("image_2"), words_of("train2017")
        (['jpeg', 'images'], ['image', '2'], ['train', '2017'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", spaced.casefold())


def is_layout_name(name: str) -> bool:
    """Return whether a folder name describes the layout of a data set, such as images, masks or train_img.

    Example:
        >>> names = ("dent", "train_img", "image_2", "trainA", "0", "raw", "imagesTr", "fold_1", "224x224")
        >>> [n for n in names if is_layout_name(n)]
        ['train_img', 'image_2', 'trainA', 'imagesTr', 'fold_1', '224x224']
    """
    words = words_of(name)
    whole = "".join(words)
    if whole in LAYOUT_WORDS or SUPERVISELY_FOLDER.fullmatch(whole) or IMAGE_SIZE.fullmatch(name):
        return True
    has_layout_word = any(w in LAYOUT_WORDS or split_named(w) for w in words)
    return has_layout_word and all(
        w.isdecimal() or w in LAYOUT_WORDS or w in COMPANION_WORDS or split_named(w) is not None
        for w in words
    )


def layout_names(names: list[str]) -> list[str]:
    """Return those of several sibling folder names that are never labels.

    `label_0` and `label_1` are labels if every folder is named that way; next to `image_2`, `label_2` is not.

    Example:
        >>> layout_names(["label_0", "label_1"]), layout_names(["img_2", "label_2"])
        ([], ['img_2', 'label_2'])
    """
    if len(names) > 1 and all(NUMBERED_LABEL.fullmatch(n) for n in names):
        return []
    return [n for n in names if is_layout_name(n)]
