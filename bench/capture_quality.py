"""Print how often usual and changed images are to be taken again: the capture gate, without a network.

    python bench/capture_quality.py --data cars/train --size 640 --resize letterbox
    python bench/capture_quality.py --data cells/data.csv --size 224

Half of the images, divided by near-duplicates, teach the limits; of the other half, all are judged untouched,
and up to `--count` changed. Sizes of blur and motion are pixels of the image.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import blemish
from blemish.capture import NearDuplicates, find_faults, learn_limits, measure
from blemish.data import split_dataset
from blemish.image_checks import Capture
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import CaptureSpec, InputSpec
from blemish.preprocessing import prepare

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def blur(sigma: float, noise: float = 0.0) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        blurred = image.filter(ImageFilter.GaussianBlur(sigma))
        if not noise:
            return blurred
        values = np.asarray(blurred, np.float32)
        return to_image(values + rng.normal(0, noise, (*values.shape[:2], 1)))

    return change


def motion(length: int) -> Change:
    """Return the mean along a line of a random direction; the camera moves evenly while it exposes."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        angle = rng.uniform(0, np.pi)
        total = np.zeros((image.height, image.width, 3), np.float32)
        steps = np.linspace(-length / 2, length / 2, 2 * length + 1)
        for step in steps:
            dx, dy = step * np.cos(angle), step * np.sin(angle)
            moved = image.transform(
                image.size, Image.Transform.AFFINE, (1, 0, dx, 0, 1, dy), Image.Resampling.BILINEAR
            )
            total += np.asarray(moved, np.float32)
        inside = int(length / 2) + 2  # beyond it the line leaves the image
        return to_image(total / len(steps)).crop(
            (inside, inside, image.width - inside, image.height - inside)
        )

    return change


def gain(factor: float) -> Change:
    return lambda image, rng: to_image(np.asarray(image, np.float32) * factor)


def shrink(factor: int, quality: int) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        small = image.resize((max(image.width // factor, 1), max(image.height // factor, 1)))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def screenshot(*, status_line: bool) -> Change:
    """Return the image on the screen of a phone, with bars of one color above and below."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        color = (0, 0, 0) if rng.random() < 0.5 else (250, 250, 250)
        screen = Image.new("RGB", (image.width, round(image.width * 19.5 / 9)), color)
        screen.paste(image, (0, (screen.height - image.height) // 2))
        if status_line:
            draw = ImageDraw.Draw(screen)
            ink = tuple(255 - c for c in color)
            size = image.width // 26
            draw.text((image.width // 16, size), "12:30", fill=ink, font_size=size)
            draw.text((image.width * 13 // 16, size), "5G 87%", fill=ink, font_size=size)
        return screen

    return change


def letterbox(share: float) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        bars = Image.new("RGB", image.size)
        top = round(image.height * share / 2)
        bars.paste(image.resize((image.width, image.height - 2 * top)), (0, top))
        return bars

    return change


def spots(count: int, radius: float) -> Change:
    """Return the image with reflections: white disks with soft edges; the radius is a share of the width."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        light = Image.new("L", image.size)
        draw, r = ImageDraw.Draw(light), radius * image.width
        for _ in range(count):
            x, y = rng.uniform(0.15, 0.85) * image.width, rng.uniform(0.15, 0.85) * image.height
            draw.ellipse((x - 1.3 * r, y - 1.3 * r, x + 1.3 * r, y + 1.3 * r), fill=255)
        soft = np.asarray(light.filter(ImageFilter.GaussianBlur(r / 3)), np.float32)
        return to_image(np.asarray(image, np.float32) + 1.5 * soft[..., None])

    return change


CASES: dict[str, tuple[tuple[str, ...], Change]] = {
    **{f"defocus, sigma {s:g} px": (("blurred", "motion-blur"), blur(s)) for s in (0.5, 1, 1.5, 2, 3, 4, 8)},
    **{
        f"defocus, sigma {s:g} px, then noise of 2 levels": (("blurred", "motion-blur"), blur(s, 2))
        for s in (2, 4, 8)
    },
    **{f"motion, {n} px": (("blurred", "motion-blur"), motion(n)) for n in (3, 5, 9, 15, 25)},
    **{f"exposure x {f:g}": (("overexposed",), gain(f)) for f in (1.25, 1.5, 2, 3, 4)},
    **{f"exposure x {f:g}": (("underexposed",), gain(f)) for f in (0.5, 0.25, 0.1, 0.05)},
    **{f"shrunk to 1/{f}, JPEG 75": (("too-small", "blurred"), shrink(f, 75)) for f in (2, 3, 4, 8)},
    **{f"full size, JPEG {q}": ((), shrink(1, q)) for q in (50, 10)},
    **{f"letterbox bars, {s:.0%}": (("borders",), letterbox(s)) for s in (0.04, 0.1, 0.25)},
    "screenshot": (("borders",), screenshot(status_line=False)),
    "screenshot with a status line": (("borders",), screenshot(status_line=True)),
    "glare, 1 spot of 3 % of the width": (("glare",), spots(1, 0.015)),
    "glare, 3 spots of 6 % of the width": (("glare",), spots(3, 0.03)),
}


FAULTS = sorted({fault for faults, _ in CASES.values() for fault in faults})


def codes(limits: CaptureSpec, image: LoadedImage, spec: InputSpec) -> set[str]:
    feed, placement = prepare(image, spec)
    measured = measure(feed, spec, placement)
    return set() if measured is None else {reason.code for reason in find_faults(limits, measured.values)}


def duplicates(images: list[Any], spec: InputSpec, rng: np.random.Generator) -> tuple[float, float]:
    """Return the shares of images that are near-duplicates of others, and of resaved copies."""
    seen, usual = NearDuplicates(), Capture((), 0.0)
    found = []
    for changed in (lambda image: image, lambda image: shrink(1, 60)(image.resize(half(image)), rng)):
        flagged = []
        for image in images:
            feed, placement = prepare(LoadedImage(changed(image)), spec)
            measured = measure(feed, spec, placement)
            assert measured is not None
            flagged.append(seen.add(usual, "", measured.hash) is not usual)
        found.append(float(np.mean(flagged)))
    return found[0], found[1]


def half(image: Image.Image) -> tuple[int, int]:
    return max(image.width // 2, 1), max(image.height // 2, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--resize", choices=("stretch", "letterbox", "shortest"), default="stretch")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=0.005)
    options = parser.parse_args()
    spec = InputSpec(size_hw=(options.size, options.size), resize=options.resize)
    dataset = blemish.open_dataset(options.data)
    shares: dict[str, list[tuple[float, float]]] = {}
    for seed in options.seeds:
        fractions = {"train": 0.5, "test": 0.5}
        halves = split_dataset(dataset, fractions=fractions, seed=seed, group_by="near-duplicates")
        learned, held_out = (halves.of_split(name).samples for name in ("train", "test"))
        limits = learn_limits(learned, (spec,), rate=options.rate)
        assert limits is not None
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(held_out))
        untouched = [codes(limits, open_image(s.path), spec) for s in held_out]
        any_share = float(np.mean([bool(c) for c in untouched]))
        shares.setdefault("untouched", []).append((any_share, any_share))
        for fault in FAULTS:
            share = float(np.mean([fault in found for found in untouched]))
            shares.setdefault(f"untouched, {fault}", []).append((share, share))
        images = [open_image(held_out[i].path).to_pil() for i in order[: options.count]]
        for name, (expected, change) in CASES.items():
            found = [codes(limits, LoadedImage(change(image, rng)), spec) for image in images]
            right = float(np.mean([bool(c & set(expected)) for c in found]))
            shares.setdefault(name, []).append((right, float(np.mean([bool(c) for c in found]))))
        others, copies = duplicates(images, spec, rng)
        shares.setdefault("near-duplicate: other images", []).append((others, others))
        shares.setdefault("near-duplicate: copies at half the size, JPEG 60", []).append((copies, copies))
        sys.stderr.write(f"seed {seed}: limits of {limits.images} images, {len(images)} changed\n")
    sys.stdout.write("| images | flagged for this, % | flagged for anything, % |\n|---|---|---|\n")
    for name, rows in shares.items():
        right, anything = (
            " / ".join(f"{100 * row[i]:.1f}".rstrip("0").rstrip(".") for row in rows) for i in (0, 1)
        )
        sys.stdout.write(f"| {name} | {right} | {anything} |\n")


if __name__ == "__main__":
    main()
