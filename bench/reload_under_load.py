"""Send images to a server whose model file changes every few seconds, and count failures.

    python bench/reload_under_load.py A.onnx B.onnx photo.jpg --seconds 120 --every 5

The server runs with `--watch-seconds 0.5`; the served file is A and B in turn, and every fourth one is a
damaged copy. Prints the numbers of answers, of failures, and of answers by digest; exits with 1 if a request
failed, or an answer names a digest that is neither A's nor B's or has the scores of another model.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from blemish.inference import load


async def measure(address: str, files: list[Path], served: Path, photo: bytes, options: argparse.Namespace):
    scores = {p.digest: p.predict(photo).label_scores for p in map(load, files[:2])}
    answers: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    failures: list[str] = []
    end = time.monotonic() + options.seconds

    async def send(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            response = await client.post("/api/v1/predict", files={"image": photo})
            seconds.append(time.monotonic() - began)
            if response.status_code != 200:
                failures.append(response.text)
                continue
            body = response.json()
            answers[body["model_digest"]] += 1
            found = [row["score"] for row in body["labels"]]
            expected = scores.get(body["model_digest"])
            if expected is None or abs(expected - found).max() > 1e-4:
                failures.append(f"the scores are not those of {body['model_digest']}")

    async def change() -> None:
        number = 0
        while time.monotonic() + options.every < end:
            await asyncio.sleep(options.every)
            number += 1
            source = files[2] if number % 4 == 0 else files[number % 2]
            shutil.copy(source, served.with_name("next"))
            served.with_name("next").replace(served)

    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        while True:
            try:
                if (await client.get("/api/v1/health/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.3)
        end = time.monotonic() + options.seconds
        await asyncio.gather(*(send(client) for _ in range(options.clients)), change())
        metrics = (await client.get("/metrics")).text
    seconds.sort()
    print(f"{sum(answers.values())} answers, {len(failures)} failures {failures[:3]}")
    print(f"by digest: { ({digest[:12]: count for digest, count in answers.items()}) }")
    print(f"median {seconds[len(seconds) // 2]:.3f} s, slowest {seconds[-1]:.3f} s")
    print("\n".join(line for line in metrics.splitlines() if line.startswith("blemish_reloads_total")))
    return len(failures)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=2, type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--every", type=float, default=5)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served, damaged = Path(folder) / "served.onnx", Path(folder) / "damaged.onnx"
        shutil.copy(options.files[0], served)
        damaged.write_bytes(options.files[1].read_bytes()[:-64])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "blemish", "serve", "--model", str(served), "--port", str(port)]
        server = subprocess.Popen([*command, "--watch-seconds", "0.5"], stderr=subprocess.DEVNULL)
        try:
            files = [*options.files, damaged]
            address = f"http://127.0.0.1:{port}"
            failed = asyncio.run(measure(address, files, served, options.photo.read_bytes(), options))
        finally:
            server.terminate()
            server.wait()
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
