"""Measure listing, filtering and opening of findings in stores of 10,000 and 100,000 findings.

    python bench/inspections.py [--database URL] [--findings 10000 100000] [--repeats 200]

Rows are written directly, 50 findings for each of 2 images of an inspection. The two stores are measured in
turns in one process. Without `--database`, the stores have SQLite files in a temporary folder; with it, one
empty PostgreSQL database for each size is expected, with `{size}` in its URL.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from blemish.inspections import tables
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.inspector import inspection_summary
from blemish.inspections.store import InspectionStore

LABELS = ("dent", "scratch", "crack", "rust")


def rows_of(inspection_id, image_ids, source):
    for number in range(100):
        label = source.choice(LABELS)
        yield {
            "id": new_id(), "inspection_id": inspection_id, "image_id": image_ids[number % 2], "run_id": None,
            "origin": "person", "label": label, "score": None, "polygons": None, "current": None,
            "box_xyxy": [1.0, 2.0, 30.0, 40.0], "area_share": 0.01, "part": "", "severity_scale": "s",
            "severity_level": source.choice("0123"), "severity_rule": "r", "measures": {},
            "state": "open" if source.random() < 0.02 else "accepted", "current_label": label,
            "created_at": now(), "group_id": None, "group_basis": "", "change": "unknown", "version": 1,
        }  # fmt: skip


def fill(store, count):
    source = random.Random(0)
    asset = store.assets.create("free", "bench")
    for _ in range(count // 100):
        inspection = store.inspections.create(asset.id)
        images = [
            {
                "id": new_id(), "inspection_id": inspection.id, "sha256": f"{source.getrandbits(256):064x}",
                "size_bytes": 1, "height": 100, "width": 100, "format": "PNG", "orientation": 1,
                "perceptual_hash": "", "file_name": "x.png", "view": "", "quality": {}, "created_at": now(),
            }
            for _ in range(2)
        ]  # fmt: skip
        rows = list(rows_of(inspection.id, [image["id"] for image in images], source))
        open_count = sum(row["state"] == "open" for row in rows)

        def work(transaction, images=images, rows=rows, inspection=inspection, open_count=open_count):
            transaction.connection.execute(sa.insert(tables.image), images)
            transaction.connection.execute(sa.insert(tables.finding), rows)
            transaction.connection.execute(
                sa.update(tables.inspection)
                .where(tables.inspection.c.id == inspection.id)
                .values(open_findings=open_count, needs_review=int(open_count > 0))
            )
            transaction.record("bench", "inspection", inspection.id)

        store.access.write(work)


def operations(store, source):
    with store.access.database.read() as connection:
        ids = connection.execute(sa.select(tables.finding.c.id)).scalars().all()
        inspections = connection.execute(sa.select(tables.inspection.c.id)).scalars().all()
    middle = store.findings.list(limit=1).next_cursor
    return {
        "list inspections": lambda: store.inspections.list(needs_review=True),
        "list findings": lambda: store.findings.list(limit=50, cursor=middle),
        "filter by state": lambda: store.findings.list(state="open", limit=50),
        "filter by label and level": lambda: store.findings.list(
            label=source.choice(LABELS), severity_level=source.choice("0123"), limit=50
        ),
        "filter by a label that does not occur": lambda: store.findings.list(label="none", limit=50),
        "findings of an inspection": lambda: store.findings.of_inspection(source.choice(inspections)),
        "open a finding": lambda: store.findings.get(source.choice(ids)),
        "open an inspection": lambda: inspection_summary(store, source.choice(inspections)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database")
    parser.add_argument("--findings", type=int, nargs=2, default=[10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = []
        for count in given.findings:
            url = None if given.database is None else given.database.replace("{size}", str(count))
            store = InspectionStore.open(Path(folder) / str(count), database=url, create=True)
            fill(store, count)
            stores.append(store)
        source = random.Random(1)
        works = [operations(store, source) for store in stores]
        print(
            f"| operation | p95 at {given.findings[0]:,} | p95 at {given.findings[1]:,} | ratio of medians |"
        )
        print("|---|---|---|---|")
        for name in works[0]:
            seconds = [[], []]
            for _ in range(given.repeats):
                for position, work in enumerate(works):
                    began = time.perf_counter()
                    work[name]()
                    seconds[position].append(time.perf_counter() - began)
            p95 = [1000 * np.percentile(values, 95) for values in seconds]
            ratio = np.median(seconds[1]) / np.median(seconds[0])
            print(f"| {name} | {p95[0]:.1f} ms | {p95[1]:.1f} ms | {ratio:.2f} |", flush=True)
        for store in stores:
            store.close()


if __name__ == "__main__":
    main()
