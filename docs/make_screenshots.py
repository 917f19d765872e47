"""Take the screenshots and the recording of the web page, with a model that is trained for them.

    make screenshots                              all, into docs/images
    python docs/make_screenshots.py page.png      one of them
    python docs/make_screenshots.py --model FILE  with a model file of an earlier call

`blemish data synthesize` draws the images, and `blemish train` trains on them; the images on the page are
drawn from another seed, so that the model has not seen them. The answers are the model's own, with its
mistakes. No real image is used. Needs the extras `train`, `pretrained`, `serve`, `inspections` and `dev`, and
Chromium. Only `page.png`, `inspection.png` and `recording.gif` belong in the repository.
"""

# ruff: noqa: S310, S603, T201  (it starts the project's own commands on this machine, and prints what it wrote)

from __future__ import annotations

import argparse
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

OUTPUT = Path(__file__).parent / "images"
SEED = 11  # of the images on the page; those of the training have seed 0
IMAGES = 7
SIZE_HW = (750, 1000)
TRAINING_IMAGES = 240
TRAINING_SIDE = 320
TRAINING = (
    "--recipe=car-maskrcnn-lite",
    "--epochs=3",
    "--input-size=256",
    "--set=training.schedule.warmup_epochs=.3",
    "--set=model.options.proposals=200",
    "--set=model.options.sampled_proposals=64",
)  # about 10 minutes of processor time


def trained(folder: Path) -> Path:
    """Train a model on drawn panels and return its file."""
    blemish(
        "data", "synthesize", "panels", "--task", "segmentation", f"--count={TRAINING_IMAGES}",
        f"--size={TRAINING_SIDE}", "--seed=0", "--fractions=train=.85,val=.15",
        f"--output={folder / 'panels'}",
    )  # fmt: skip
    blemish("train", f"--data={folder / 'panels'}", f"--output={folder / 'run'}", *TRAINING)
    return folder / "run" / "model.onnx"


def blemish(*arguments: str) -> None:
    """Run one command; its progress is shown."""
    subprocess.run([sys.executable, "-m", "blemish", *arguments], check=True)


def drawn(folder: Path) -> list[Path]:
    """Draw the images for the page."""
    from blemish.data.synthetic import panels

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, specimen in enumerate(panels(IMAGES, SEED, size_hw=SIZE_HW), 1):
        paths.append(folder / f"panel-{number:02d}.jpg")
        specimen.image.to_pil().save(paths[-1], quality=92)
    return paths


@contextmanager
def served(model: Path, store: Path) -> Iterator[str]:
    """The address of `blemish serve` with this model and a new store of inspections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "blemish", "serve", f"--model=panels={model}", f"--port={port}",
        f"--inspections={store}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{address}/api/v1/health/ready"):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} does not answer") from None
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def shot(page: Any) -> Image.Image:
    """Return what the page shows."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def quantized(image: Image.Image, colors: int = 200) -> Image.Image:
    """Return the image with few colors, without dithering, whose noise compresses poorly."""
    return image.quantize(colors, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def report_size(path: Path) -> None:
    """Print what was written."""
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def save(page: Any, path: Path) -> None:
    """Save a screenshot of the page as a small PNG."""
    page.wait_for_timeout(1500)  # thumbnails and crops are drawn one after another
    quantized(shot(page)).save(path, optimize=True)
    report_size(path)


def record(page: Any, paths: Sequence[Path], path: Path) -> None:
    """Record an inspection as a GIF: adding images, the answers arriving, one image, its threshold."""
    frames: list[tuple[Image.Image, int]] = [(shot(page), 1200)]  # image, milliseconds
    page.set_input_files("#files", [str(image) for image in paths])
    for _ in range(60):
        frames.append((shot(page), 350))
        if page.locator(".photo.done").count() == len(paths):
            break
        page.wait_for_timeout(250)
    for number in (1, 3, 4):
        page.locator(".face").nth(number).click()
        page.wait_for_timeout(900)
        frames.append((shot(page), 1800))
    page.keyboard.press("1")
    page.wait_for_timeout(600)
    frames.append((shot(page), 1800))
    kept = [frames[0]]
    for image, duration in frames[1:]:
        if image.tobytes() != kept[-1][0].tobytes():
            kept.append((image, duration))
    # One palette for all frames, so that unchanged parts of the page stay unchanged and cost nothing.
    palette = quantized(kept[-2][0], 128)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image, _ in kept]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=[d for _, d in kept], loop=0, optimize=True
    )
    report_size(path)


def upload(page: Any, paths: Sequence[Path]) -> None:
    """Upload the images and wait for all results."""
    page.set_input_files("#files", [str(path) for path in paths])
    page.locator(".photo.done").nth(len(paths) - 1).wait_for()


def batch(page: Any, paths: Sequence[Path]) -> None:
    """Show a batch with the detections of one image."""
    upload(page, paths)
    page.locator(".face").nth(3).click()


def scores(page: Any, paths: Sequence[Path]) -> None:
    """Show the scores of one image."""
    upload(page, paths[:1])
    page.keyboard.press("1")


def inspection(page: Any, paths: Sequence[Path]) -> None:
    """Review the findings of an inspection."""
    page.evaluate("() => localStorage.setItem('blemish-reviewer', 'A. Jensen')")
    page.goto(page.url.partition("#")[0] + "#/inspections")
    page.locator("[data-key=new-inspection]").click()
    page.locator("#new-reference").fill("Panel line 2, lot 1204")
    page.locator("#new-asset-kind").select_option("part")
    page.locator("#new-severity").select_option("vehicle")
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    page.set_input_files("#inspection-files", [str(path) for path in paths])
    page.locator(".tile:not(.upload)").nth(len(paths) - 1).wait_for()
    page.locator(".tile.waiting, .tile.analyzing").first.wait_for(state="detached")
    page.locator("[data-key=run-progress]").wait_for(state="detached")
    for key in "aaxa":
        page.locator(".finding-panel h2").wait_for()
        page.keyboard.press(key)
    page.wait_for_function("() => !localStorage.getItem('blemish-decisions')")


SHOTS: dict[str, tuple[dict[str, Any], Callable[[Any, Sequence[Path]], None]]] = {
    "page.png": ({"viewport": {"width": 1120, "height": 660}}, batch),
    "page-dark.png": ({"viewport": {"width": 1120, "height": 660}, "color_scheme": "dark"}, batch),
    "page-phone.png": (
        {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
        scores,
    ),
    "inspection.png": ({"viewport": {"width": 1280, "height": 800}}, inspection),
    "inspection-dark.png": ({"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}, inspection),
    "page-start.png": ({"viewport": {"width": 1120, "height": 660}}, lambda page, paths: None),
}


RECORDING = "recording.gif"


def main(arguments: Sequence[str]) -> int:
    """Take the screenshots with these names, or all of them."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Take the screenshots and the recording of the web page.")
    parser.add_argument("names", nargs="*", help=f"{', '.join([*SHOTS, RECORDING])}; default: all")
    parser.add_argument("--model", type=Path, help="a model file for drawn panels, instead of training one")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {*SHOTS, RECORDING}:
        parser.error(f"no such screenshot: {', '.join(sorted(unknown))}")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("Chromium is not installed. Run apt-get install chromium.", file=sys.stderr)
        return 2
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        model = options.model or trained(Path(folder))
        paths = drawn(Path(folder) / "photos")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        with served(model, Path(folder) / "store") as address:
            for name in options.names or [*SHOTS, RECORDING]:
                window, act = SHOTS.get(name, (dict(SHOTS["page.png"][0]), None))
                context = browser.new_context(**window)
                page = context.new_page()
                page.goto(f"{address}/#/check")
                page.locator("#about-model h2").wait_for()
                if act is None:
                    record(page, paths, OUTPUT / name)
                else:
                    act(page, paths)
                    save(page, OUTPUT / name)
                context.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
