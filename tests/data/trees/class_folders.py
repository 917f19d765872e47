"""Draw classification data sets: one folder per label, with or without splits."""

from __future__ import annotations

from tests.data.trees.annotation_tree import SPLITS, Tree

SPLIT_FOLDERS = (
    ("train", "val", "test"),
    ("train", "valid", "test"),
    ("Train", "Validation", "Test"),
    ("training", "validation", "testing"),
    ("TRAIN", "VAL", "TEST"),
)
# Folder names that are part of a layout; data sets with such labels are refused.
LAYOUT_LABELS = (
    ("train", "test"),
    ("images", "masks"),
    ("mask", "no mask"),
    ("image_2", "label_2"),
    ("fold_1", "fold_2"),
    ("224x224", "512x512"),
    ("rgb", "depth"),
)


def draw_class_folders(tree: Tree) -> None:
    """Draw folders of labels, perhaps below folders of splits."""
    labels = tuple(name for name in tree.draw_labels() if not set(name) & set('<>"'))
    must_refuse = False
    if tree.odd("labels named like a layout", 0.08, may_refuse=True):
        labels = tree.choice(LAYOUT_LABELS)
        must_refuse = True
    tree.labels, tree.tasks = labels, ("classification",)
    if len(labels) < 2:
        tree.may_refuse.append("one label")
    folders: dict[str | None, str] = {None: ""}
    if tree.chance(0.5):
        count = tree.choice((2, 3))
        folders = dict(zip(SPLITS[:count], tree.choice(SPLIT_FOLDERS), strict=False))
    top = (
        f"{tree.choice(('data', 'My Set (1)', 'images'))}/"
        if tree.odd("folder above", 0.1, may_refuse=True)
        else ""
    )
    subfolders = tree.odd("images in subfolders", 0.1, may_refuse=True)
    same_stems = tree.odd("same names in several folders", 0.3)
    for split, folder in folders.items():
        for label in labels:
            names = tree.names(tree.choice((1, 2, 3)))
            for number, name in enumerate(names):
                below = f"part {number}/" if subfolders else ""
                stem = name if same_stems else f"{labels.index(label)}-{split}-{name}"
                orientation = (
                    6 if tree.odd("EXIF orientation", 0.05) and stem.endswith((".jpg", ".JPG")) else 1
                )
                path = "/".join(part for part in (f"{top}{folder}", label, f"{below}{stem}") if part)
                tree.image(path.replace("//", "/"), split, orientation=orientation).labels = [label]
    if tree.odd("empty label folder", 0.08):
        place = tree.root / top / next(iter(folders.values())) / "rust"
        place.mkdir()
        tree.labels = (*labels, "rust")
    if tree.odd("images without label", 0.1, may_refuse=bool(top)):
        base = f"{top}{next(iter(folders.values()))}"
        tree.image(f"{base}/stray 1.jpg" if base else "stray 1.jpg").annotated = False
    if tree.odd("checkpoints of notebooks", 0.1):
        tree.write(f"{top}.ipynb_checkpoints/dent-checkpoint.txt", "")
    tree.other_files()
    if must_refuse:  # no reading is right
        tree.labels = ()
