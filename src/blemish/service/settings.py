"""What an operator can set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The service's limits and habits.

    Attributes:
        max_upload_bytes: of one image as sent.
        max_pixels: of one image as its header says, before decoding.
        max_batch: images in one `predict:batch`.
        queue_size: images a model works or waits on at once; the next one is refused with 429.
        largest_batch: images that go through a network together.
        deadline_seconds: from the upload's last byte to the answer.
        read_timeout_seconds: for reading a whole request.
        explain_seconds: that a map may take where the model has to be asked many times.
        upload_memory_bytes: of all uploads that are being read or worked on.
        link_seconds: how long a link in an answer works; 0 gives none.
        link_memory_bytes: of all images kept for their links; the oldest go first.
        keep_folder: where images and answers are kept; None keeps nothing.
        keep_hours: for how long.
        cors_origins: that browsers may call from; none by default.
        frame_ancestors: that may show the page in a frame; none by default.
        decoding_threads: that open and shrink images; None takes one a processor.

    Raises:
        BadInput: a limit is not positive, or images are kept without saying for how long.
    """

    max_upload_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_batch: int = 32
    queue_size: int = 64
    largest_batch: int = 8
    deadline_seconds: float = 60.0
    read_timeout_seconds: float = 30.0
    explain_seconds: float = 20.0
    upload_memory_bytes: int = 512 * 1024 * 1024
    link_seconds: float = 600.0
    link_memory_bytes: int = 128 * 1024 * 1024
    keep_folder: Path | None = None
    keep_hours: float | None = None
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    decoding_threads: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "max_upload_bytes",
            "max_pixels",
            "max_batch",
            "queue_size",
            "largest_batch",
            "deadline_seconds",
            "read_timeout_seconds",
            "upload_memory_bytes",
        ):
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.keep_folder is not None and (self.keep_hours is None or self.keep_hours <= 0):
            raise BadInput(
                "--keep needs --keep-hours, a number above 0: say for how long photographs are kept"
            )
        if self.keep_folder is None and self.keep_hours is not None:
            raise BadInput("--keep-hours needs --keep FOLDER: say where photographs are kept")
