"""Images of inspections: the file is stored first, then its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from PIL import ImageFilter

from blemish.arrays import FloatArray
from blemish.data.image_hashes import detail_hash
from blemish.errors import BadImage, BadInput, Conflict
from blemish.imaging import LIMITS, Limits, LoadedImage, open_image
from blemish.inspections import tables
from blemish.inspections.access import Access, check_text
from blemish.inspections.database import Transaction
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.queries import fetch_one
from blemish.inspections.records import InspectionImage

MAX_IMAGES = 2000  # of one inspection
_QUALITY_SIDE = 512
_BLUR_SIGMA = 1.5  # pixels of the reduced image
_NO_DETAIL = 0.02  # gray levels squared, added: an even surface has no focus


class Images:
    """The images of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def add(
        self,
        inspection_id: str,
        content: bytes | Path,
        *,
        file_name: str = "",
        view: str = "",
        version: int | None = None,
        limits: Limits = LIMITS,
    ) -> InspectionImage:
        """Store an image of an inspection.

        Args:
            inspection_id: the inspection.
            content: the bytes of the file, or its path.
            file_name: as users know it; default: the name of the path.
            view: such as "front left".
            version: the version that the inspection must have; None accepts any.
            limits: largest size of an image.

        Raises:
            BadImage: it cannot be used as an image; it is not stored.
            Conflict: the inspection has this image already ("conflict.image-exists"), is closed, or has
                another version.
            StorageFull: the disk is full; nothing is stored.
        """
        if isinstance(content, Path):
            file_name = file_name or content.name
            loaded = open_image(content, limits=limits)
            try:
                data = content.read_bytes()
            except OSError as error:
                raise BadImage(content, f"cannot be read ({error.strerror})") from error
        else:
            data = content
            loaded = open_image(data, limits=limits)
        header = loaded.header
        assert header is not None  # noqa: S101  (it was opened from a file)
        height, width = loaded.size_hw
        values: dict[str, Any] = {
            "id": new_id(),
            "inspection_id": inspection_id,
            "size_bytes": len(data),
            "height": height,
            "width": width,
            "format": header.format,
            "orientation": header.orientation,
            "perceptual_hash": "".join(f"{word:016x}" for word in detail_hash(loaded).tolist()),
            "file_name": check_text("file name", Path(file_name.replace("\\", "/")).name, 255),
            "view": check_text("view", view, 64),
            "quality": image_quality(loaded),
            "created_at": now(),
        }
        with self._access.database.read() as connection:  # refused before the file is stored
            self._access.inspection(connection, inspection_id)
        values["sha256"] = self._access.files.add(data)

        def work(transaction: Transaction) -> InspectionImage:
            connection = transaction.connection
            self._access.change(transaction, inspection_id, version=version)
            columns = tables.image.c
            mine = columns.inspection_id == inspection_id
            same = sa.select(columns.id).where(mine, columns.sha256 == values["sha256"])
            if (row := connection.execute(same).first()) is not None:
                raise Conflict(
                    f"{file_name or 'image'}: the inspection has this image already, as {row.id}",
                    reason="image-exists",
                )
            count = connection.execute(
                sa.select(sa.func.count()).select_from(tables.image).where(mine)
            ).scalar_one()
            if count >= MAX_IMAGES:
                raise BadInput(f"an inspection has at most {MAX_IMAGES} images", reason="too-many-images")
            connection.execute(sa.insert(tables.image), [values])
            details = {"image_id": values["id"], "sha256": values["sha256"], "view": values["view"]}
            transaction.record("image.add", "inspection", inspection_id, details)
            return InspectionImage(**values)

        return self._access.write(work)

    def get(self, image_id: str) -> InspectionImage:
        """Return an image; raise `UnknownName` if there is none of this user."""
        query = sa.select(tables.image).join(tables.inspection).where(tables.image.c.id == image_id)
        query = self._access.visible(query, tables.inspection.c.owner)
        with self._access.database.read() as connection:
            return fetch_one(connection, query, InspectionImage.from_row, "image", image_id)

    def of_inspection(self, inspection_id: str) -> tuple[InspectionImage, ...]:
        """Return all images of an inspection, in the order in which they were added."""
        with self._access.database.read() as connection:
            self._access.inspection(connection, inspection_id)
            query = sa.select(tables.image).where(tables.image.c.inspection_id == inspection_id)
            return tuple(map(InspectionImage.from_row, connection.execute(query.order_by(tables.image.c.id))))

    def set_view(self, image_id: str, view: str, *, version: int | None = None) -> InspectionImage:
        """Name the view of an image.

        Args:
            image_id: the image.
            view: such as "front left", or "".
            version: the version that its inspection must have; None accepts any.
        """
        text = check_text("view", view, 64)

        def work(transaction: Transaction) -> InspectionImage:
            image = self.get(image_id)
            self._access.change(transaction, image.inspection_id, version=version)
            transaction.connection.execute(
                sa.update(tables.image).where(tables.image.c.id == image_id).values(view=text)
            )
            transaction.record(
                "image.view", "inspection", image.inspection_id, {"image_id": image_id, "view": text}
            )
            return self.get(image_id)

        return self._access.write(work)

    def content(self, image_id: str) -> bytes:
        """Return the bytes of an image's file."""
        return self._access.files.read(self.get(image_id).sha256)

    def open(self, image: InspectionImage, limits: Limits = LIMITS) -> LoadedImage:
        """Open an image; the pixels are upright."""
        return open_image(self._access.files.path(image.sha256), limits=limits)


def image_quality(image: LoadedImage) -> dict[str, float]:
    """Return focus and brightness of an image, of a gray copy of at most 512 pixels.

    Returns:
        `focus`: by what factor a further blur lowers the variance of the Laplacian, about 1 for an image that
        is blurred already; `mean_level`: in [0, 255]; `clipped_share`: share of pixels that are black or
        white, in [0, 1].

    Source:
        Crete et al. 2007, "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur
        Metric", for the comparison with a blurred copy.
    """
    reduced = image.to_pil().convert("L")
    reduced.thumbnail((_QUALITY_SIDE, _QUALITY_SIDE))
    gray = np.asarray(reduced, np.float64)
    blurred = np.asarray(reduced.filter(ImageFilter.GaussianBlur(_BLUR_SIGMA)), np.float64)
    return {
        "focus": round(_detail(gray) / (_detail(blurred) + _NO_DETAIL), 3),
        "mean_level": round(float(gray.mean()), 2),
        "clipped_share": round(float(((gray <= 1) | (gray >= 254)).mean()), 4),
    }


def _detail(gray: FloatArray) -> float:
    """Return the variance of the Laplacian, in gray levels squared; 0 for an image below 3 x 3 pixels."""
    if min(gray.shape) < 3:
        return 0.0
    center = gray[1:-1, 1:-1]
    neighbors = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((neighbors - 4 * center).var())
