"""Find the images that the lines of tables name, and count those that are not where the table states."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from blemish.data.image_index import ImageIndex, is_image_name
from blemish.data.read_context import ReadContext


class TableImages:
    """The images of tables.

    Attributes:
        index: every image below the folder of the images.
    """

    def __init__(self, index: ImageIndex, context: ReadContext) -> None:
        self.index = index
        self._context = context
        self._by_name: list[str] = []
        self._by_stem: list[str] = []

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self.index.root

    def find(self, written: str, folder: Path) -> Path | None:
        """Return the image that a cell names, or None.

        It is searched below the folder of the table, then by the last parts of its path, then by its file
        name alone if only one image has it, and a name without extension by its stem.

        Args:
            written: the cell.
            folder: the folder of the table.
        """
        plain = written.strip().replace("\\", "/")
        if folder != self.root and folder.is_relative_to(self.root) and plain:
            below = (folder.relative_to(self.root) / plain).as_posix()
            if below in self.index.files:
                return self.index.files[below]
        found = self.index.find(written)
        if found is not None or not plain:
            return found
        found = self.index.by_name(written, folder.name)
        if found is not None:
            self._by_name.append(f"{written!r} in {self._shown(found.parent)}")
        elif not is_image_name(PurePosixPath(plain).name):
            found = self.index.by_unique_stem(PurePosixPath(plain).name)
            if found is not None:
                self._by_stem.append(f"{written!r} is {self._shown(found)}")
        return found

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def report(self, missing: list[tuple[str, str]]) -> None:
        """Note how images were found, and report those that do not exist.

        Args:
            missing: name as written, and place of the label, of each image that was not found.

        Raises:
            BadDataset: the reading is strict and images are missing.
        """
        if self._by_name:
            self._context.note(
                f"{len(self._by_name)} images were found by their file names in another folder, such as"
                f" {self._by_name[0]}"
            )
        if self._by_stem:
            self._context.note(
                f"{len(self._by_stem)} names without extension were found, such as {self._by_stem[0]}"
            )
        self._context.missing_images(missing, self.root, self.index)
