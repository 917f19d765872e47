"""Images behind links, explanations and memory under attack; prints a table of its figures.

    python bench/attack_pictures.py                      every part
    python bench/attack_pictures.py --only memory

Each part starts a fresh server on 127.0.0.1 with a ResNet-18 of random weights, sends a bounded number of
requests, and ends the server. Memory is read from /proc, so this script needs Linux.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from peers.servers import blemish, images, make_model

Row = tuple[str, str, str, str]  # attack, measured, value, target

TIMEOUT_SECONDS = 240
LARGE_SIDES = (9000, 7000)  # 63 megapixels, just below the limit of the service


def memory_mb(pid: int, field: str) -> float:
    """Return a field of /proc/PID/status such as VmRSS in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc has no {field}")


def reset_peak(pid: int) -> None:
    """Let VmHWM begin again at the current memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def percentile(seconds: list[float], q: float) -> float:
    """Return a percentile in milliseconds."""
    return 1000 * float(np.percentile(seconds, q)) if seconds else float("nan")


def png(size_wh: tuple[int, int], color: tuple[int, int, int] = (120, 60, 30)) -> bytes:
    """Return a PNG of one color, which is small whatever its size."""
    with io.BytesIO() as buffer:
        Image.new("RGB", size_wh, color).save(buffer, "PNG")
        return buffer.getvalue()


def large_images() -> list[bytes]:
    """Return a PNG of one color, a JPEG of noise in 63 megapixels, and one of each in 12 megapixels."""
    out = []
    for width, height in (LARGE_SIDES, (4000, 3000)):
        coarse = np.random.default_rng(3).integers(0, 256, (height // 50, width // 50, 3), dtype=np.uint8)
        with io.BytesIO() as buffer:
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(buffer, "JPEG")
            out += [png((width, height)), buffer.getvalue()]
    return out


def ask(client: httpx.Client, data: bytes, **parameters: str) -> httpx.Response:
    """Send one image."""
    return client.post("/api/v1/predict", files={"image": data}, params=parameters)


def links(file: Path, options: argparse.Namespace) -> list[Row]:
    """Open the links of images with one row of pixels."""
    rows: list[Row] = []
    made, port, _ = blemish(file)
    with made as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS) as http:
        ask(http, images(1)[0])
        for width in (1_000_000, 70_000):
            answer = ask(http, png((width, 1))).json()
            for name in ("overlay", "image"):
                before = memory_mb(process.pid, "VmRSS")
                reset_peak(process.pid)
                began = time.perf_counter()
                got = http.get(answer["links"][name])
                seconds = time.perf_counter() - began
                peak = memory_mb(process.pid, "VmHWM") - before
                size = Image.open(io.BytesIO(got.content)).size if got.status_code == 200 else "none"
                value = f"status {got.status_code}, {size}, {seconds:.2f} s, {peak:.0f} MB more"
                rows.append((f"PNG of {width:,} x 1", f"{name} link", value, "200 MB and 2 s more"))
    return rows


def explanations(file: Path, options: argparse.Namespace) -> list[Row]:
    """Send 64 requests for heatmaps at once, and plain predictions meanwhile."""
    made, port, _ = blemish(file)
    data = images(1)[0]
    quiet: list[float] = []
    busy: list[float] = []
    outcomes: Counter[str] = Counter()

    def explain(address: str, results: Counter[str]) -> None:
        with httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS) as http:
            answer = ask(http, data, explain="heatmap")
            body = answer.json()
            kind = "map" if body.get("heatmap") else "no map" if answer.status_code == 200 else "refused"
            results[f"{answer.status_code} {kind}"] += 1

    def plain(http: httpx.Client, times: list[float]) -> None:
        began = time.perf_counter()
        status = ask(http, data).status_code
        times.append(time.perf_counter() - began)
        outcomes[f"plain {status}"] += 1

    address = f"http://127.0.0.1:{port}"
    with made, httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS) as http:
        for _ in range(3):
            plain(http, [])
        for _ in range(40):
            plain(http, quiet)
        began = time.perf_counter()
        threads = [threading.Thread(target=explain, args=(address, outcomes)) for _ in range(64)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or len(busy) < 40:
            plain(http, busy)
        seconds = time.perf_counter() - began
    text = ", ".join(f"{n} x {name}" for name, n in sorted(outcomes.items()))
    label = "64 requests for heatmaps at once"
    times = [f"{percentile(t, 50):.0f} / {percentile(t, 99):.0f}" for t in (quiet, busy)]
    return [
        ("no other client", f"plain prediction p50 / p99, ms ({len(quiet)})", times[0], ""),
        (label, f"plain prediction p50 / p99, ms ({len(busy)})", times[1], ""),
        (label, "answers", text, "every plain one 200"),
        (label, "until the last answer, s", f"{seconds:.1f}", ""),
    ]


def memory(file: Path, options: argparse.Namespace) -> list[Row]:
    """Send large images and open their links; compare the memory before and after."""
    made, port, _ = blemish(file, *(("--link-seconds", "60") if options.settle > 60 else ()))
    usual, large = images(8), large_images()
    with made as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS) as http:
        for _ in range(3):
            for data in usual:
                http.get(ask(http, data).json()["links"]["overlay"])
        time.sleep(options.settle)
        before = memory_mb(process.pid, "VmRSS")
        reset_peak(process.pid)

        def send(data: bytes) -> None:
            with httpx.Client(base_url=http.base_url, timeout=TIMEOUT_SECONDS) as own:
                links = ask(own, data).json()["links"]
                for name in ("overlay", "image"):
                    own.get(links[name])

        for _ in range(options.rounds):
            threads = [threading.Thread(target=send, args=(data,)) for data in large]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        at_once = memory_mb(process.pid, "VmRSS")
        time.sleep(options.settle)
        after = memory_mb(process.pid, "VmRSS")
        peak = memory_mb(process.pid, "VmHWM")
        metrics = http.get("/metrics").text
        link_line = next(line for line in metrics.splitlines() if line.startswith("blemish_link_bytes "))
        link_mb = float(link_line.split()[1]) / 2**20
    count = options.rounds * len(large)
    return [
        (
            f"{count} images of 12 and 63 megapixels",
            "memory before / peak / at their end, MB",
            f"{before:.0f} / {peak:.0f} / {at_once:.0f}",
            "",
        ),
        (
            f"{count} images of 12 and 63 megapixels",
            f"memory after {options.settle:g} s / before",
            f"{after:.0f} / {before:.0f} = {after / before:.2f} ({link_mb:.0f} MB behind links)",
            "1.3",
        ),
    ]


PARTS = {"links": links, "explanations": explanations, "memory": memory}


def run(file: Path, options: argparse.Namespace, only: list[str]) -> list[Row]:
    """Return the rows of some parts."""
    return [row for part in only for row in PARTS[part](file, options)]


def parser() -> argparse.ArgumentParser:
    """Return the options of this script."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    out.add_argument("--folder", type=Path, help="store the model file there, for the next run")
    out.add_argument("--settle", type=float, default=15, help="seconds before memory is read")
    out.add_argument("--rounds", type=int, default=5, help="rounds of four large images")
    out.add_argument("--json", action="store_true", help="print rows of JSON")
    return out


def main() -> None:
    """Run the parts and print the table."""
    options = parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        file, _ = make_model("resnet18", folder)
        rows = run(file, options, options.only)
    if options.json:
        print(json.dumps(rows))
        return
    print("| attack | measured | result | target |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
