"""The limits and options that an operator can set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.abstention import Risk
from blemish.errors import BadInput

_POSITIVE = (
    "max_upload_bytes",
    "max_pixels",
    "max_images",
    "queue_size",
    "max_batch_size",
    "deadline_seconds",
    "read_timeout_seconds",
    "upload_memory_bytes",
    "max_store_bytes",
    "heatmap_queue_size",
    "heatmap_memory_bytes",
    "max_linked_pixels",
    "rendering_seconds",
    "max_per_client",
    "watch_seconds",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The limits and options of one service.

    Attributes:
        max_upload_bytes: maximum size of one uploaded image file.
        max_pixels: maximum width x height of one image, checked in its header before decoding.
        max_images: maximum number of images in one `predict:batch` request.
        queue_size: maximum number of images that one model processes or queues; further ones get status 429.
        max_batch_size: maximum number of images in one forward pass.
        deadline_seconds: maximum time from the end of the upload to the answer.
        read_timeout_seconds: maximum time for reading one request.
        heatmap_seconds: maximum time for one heatmap, with its time in the queue; 0 gives no heatmaps.
        heatmap_queue_size: maximum number of heatmaps that are computed or queued.
        heatmap_memory_bytes: maximum memory of all uploads that wait for their heatmap.
        heatmap_method: explanation method of the heatmaps; None selects each model's default.
        upload_memory_bytes: maximum memory of all uploads that are being read or processed.
        link_seconds: lifetime of the links in an answer; 0 gives no links.
        link_memory_bytes: maximum memory of all images behind links; the oldest are removed first.
        links_require_key: whether a link works only with the API key that got the answer.
        max_linked_pixels: maximum number of pixels of an image behind a link; a larger one is reduced.
        rendering_seconds: maximum time for rendering an image behind a link, with its time in the queue.
        max_per_client: maximum number of images behind links, and of heatmaps, that are rendered or queued
            for one API key or, without a key, one address.
        store_dir: directory for images and answers; None stores nothing.
        retention_hours: time after which stored images and answers are deleted; required with `store_dir`.
        max_store_bytes: maximum size of all stored images and answers, of which the oldest are deleted first;
            None sets no limit.
        ready_requires_store: whether the server is ready only while images and answers can be stored.
        cors_origins: origins whose pages may call the service from a browser; default: none.
        frame_ancestors: origins that may show the page in a frame; default: none.
        sample_images: image files that the page opens at the address `/#samples`; default: none.
        white_level: sample value of white in 16-bit images; None takes the model file's or the image's own.
        risk: the risk at which images are decided or left for review if a request has none; None decides
            every image.
        check_capture: whether answers state if an image should be taken again.
        watch_seconds: time between two checks of the model files, which are loaded again when they change;
            None loads them only at the start and on request.
        label_studio_root: folder in which images of Label Studio's local files are read; None reads none.
        label_studio_url: address of the Label Studio server that images are fetched from; None fetches none.
        decoding_threads: number of threads that decode and resize images; None uses one for each core.

    Raises:
        BadInput: a limit is not positive, or only one of `store_dir` and `retention_hours` is set, or
            `store_dir` is missing beside an option that needs it.
    """

    max_upload_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_images: int = 32
    queue_size: int = 64
    max_batch_size: int = 8
    deadline_seconds: float = 60.0
    read_timeout_seconds: float = 30.0
    heatmap_seconds: float = 20.0
    heatmap_queue_size: int = 64
    heatmap_memory_bytes: int = 128 * 1024 * 1024
    heatmap_method: str | None = None
    upload_memory_bytes: int = 512 * 1024 * 1024
    link_seconds: float = 600.0
    link_memory_bytes: int = 128 * 1024 * 1024
    links_require_key: bool = False
    max_linked_pixels: int = 16_000_000
    rendering_seconds: float = 30.0
    max_per_client: int = 32
    store_dir: Path | None = None
    retention_hours: float | None = None
    max_store_bytes: int | None = None
    ready_requires_store: bool = False
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    sample_images: tuple[Path, ...] = ()
    white_level: int | None = None
    risk: float | None = None
    check_capture: bool = True
    watch_seconds: float | None = None
    label_studio_root: Path | None = None
    label_studio_url: str | None = None
    decoding_threads: int | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise BadInput(f"{name}: expected a number above 0, got {value}", reason="not-positive")
        if self.risk is not None:
            Risk(self.risk)
        if self.label_studio_url is not None and not self.label_studio_url.startswith(
            ("http://", "https://")
        ):
            raise BadInput(
                f"--label-studio-url: expected an address such as http://127.0.0.1:8080, got"
                f" {self.label_studio_url!r}",
                reason="label-studio-url",
            )
        if self.heatmap_seconds < 0:
            raise BadInput(
                f"heatmap_seconds: expected 0 or more, got {self.heatmap_seconds}", reason="negative"
            )
        if self.store_dir is not None and (self.retention_hours is None or self.retention_hours <= 0):
            raise BadInput(
                "--store-dir: expected --retention-hours with a number above 0, "
                f"got {self.retention_hours}. Set how long images and answers are stored.",
                reason="retention-hours",
            )
        if self.store_dir is None and self.retention_hours is not None:
            raise BadInput(
                "--retention-hours: expected --store-dir DIR beside it. Set where images and answers are "
                "stored.",
                reason="store-dir",
            )
        if self.store_dir is None and (self.max_store_bytes is not None or self.ready_requires_store):
            option = "--ready-requires-store" if self.ready_requires_store else "--max-store-megabytes"
            raise BadInput(
                f"{option}: expected --store-dir DIR beside it. Set where images and answers are stored.",
                reason="store-dir",
            )
