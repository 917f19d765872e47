"""Measure how well the cells of solar modules are found, and whether they get the decisions of single cells.

    python -m bench.solar_modules [--count 120] [--seed 100] [--half-cut] [--max-angle 15]
    python -m bench.solar_modules --model FILE --cells cells/labels.csv --split test --normal functional

The first draws modules with known cells, rotated and in perspective, and counts those whose rows and columns
are counted right and all of whose cells are cut at an IoU of at least .95. The second tiles images of single
cells into modules, draws these in perspective, cuts them, and compares the decisions.
"""

import argparse
import time
from collections import defaultdict

import numpy as np

from bench.quads import lowest_iou
from blemish.data import open_dataset
from blemish.data.synthetic.brush import to_uint8
from blemish.data.synthetic.modules import modules, show_flat
from blemish.errors import BlemishError
from blemish.imaging import LoadedImage, open_image
from blemish.inference import load
from blemish.inspections.module_grid import find_grid
from blemish.inspections.module_sheet import inspect_module

HALF_CUT = ((20, 6), (24, 6))


def measure_drawn(given):
    options = {"size": given.size, "max_angle": given.max_angle, "perspective": given.perspective}
    if given.half_cut:
        options |= {"half_cut": True, "grids": HALF_CUT}
    lowest, seconds, right = defaultdict(list), [], defaultdict(int)
    total = defaultdict(int)
    for module in modules(given.count, given.seed, **options):
        total[module.grid] += 1
        began = time.process_time()
        try:
            found = find_grid(module.image)
        except BlemishError as error:
            print(f"{module.id}: {error}")
            continue
        seconds.append(time.process_time() - began)
        if (found.rows, found.columns) != module.grid:
            print(f"{module.id}: counted {found.rows}x{found.columns}, not {module.grid}")
            continue
        lowest[module.grid].append(lowest_iou(found, module.cell_quads))
        right[module.grid] += lowest[module.grid][-1] >= 0.95
    print("| grid | all cells at IoU >= .95 | lowest IoU | median of the lowest |\n|---|---|---|---|")
    for grid, count in total.items():
        values = lowest[grid] or [0.0]
        name, lowest_of_all = f"{grid[0]}x{grid[1]}", min(values)
        print(f"| {name} | {right[grid]} of {count} | {lowest_of_all:.4f} | {np.median(values):.4f} |")
    print(f"CPU time: median {np.median(seconds):.2f} s, highest {max(seconds):.2f} s")


def measure_tiled(given):
    predictor = load(given.model, backend="onnxruntime")
    samples = [s for s in open_dataset(given.cells) if given.split in ("", s.split)]
    rows, columns = given.grid
    rng = np.random.default_rng(given.seed)
    equal, total, found_all, flipped = 0, 0, 0, []
    order = rng.permutation(len(samples))
    for start in range(0, len(order) - rows * columns + 1, rows * columns):
        chosen = [samples[i] for i in order[start : start + rows * columns]]
        cells = [open_image(s.path) for s in chosen]
        flat = tile(cells, rows, columns, given.gap)
        if given.flat:
            image = LoadedImage(to_uint8(flat))
        else:
            options = (given.size, given.max_angle, given.perspective)
            image, _ = show_flat(rng, flat, *options, noise=given.noise)
        try:
            sheet = inspect_module(image, predictor, (rows, columns), normal_labels=given.normal)
        except BlemishError as error:
            print(error)
            total += len(cells)
            continue
        found_all += 1
        for cell, single in zip(sheet.cells, predictor.predict(cells), strict=True):
            expected = {name for name in single.label_names if name not in given.normal}
            same = {name for name, _ in cell.labels} == expected
            equal, total = equal + same, total + 1
            if not same:
                scores = zip(single.labels, single.label_scores, strict=True)
                margin = max(abs(cell.scores[name] - score) for name, score in scores)
                flipped.append(margin)
    print(f"{found_all} modules of {rows}x{columns} found; ", end="")
    print(f"equal decisions: {equal} of {total} ({equal / total:.1%})")
    if flipped:
        print(f"scores of the others differ by {np.median(flipped):.2f} in the median")


def tile(cells, rows, columns, gap):
    """Return a flat module of single cells, (h, w) float32 in [0, 1], with dark gaps and margin."""
    side = 300
    step = side + gap
    flat = np.full((rows * step + gap, columns * step + gap), 0.02, np.float32)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        gray = np.asarray(cell.to_pil().convert("L").resize((side, side)), np.float32) / 255
        y, x = gap + row * step, gap + column * step
        flat[y : y + side, x : x + side] = gray
    return flat


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--size", type=int, default=1200)
    parser.add_argument("--half-cut", action="store_true")
    parser.add_argument("--max-angle", type=float, default=15)
    parser.add_argument("--perspective", type=float, default=0.12)
    parser.add_argument("--flat", action="store_true", help="tiled modules as they are, without a camera")
    parser.add_argument("--noise", type=float, default=0.0, help="of tiled modules, in [0, 1]")
    parser.add_argument("--model")
    parser.add_argument("--cells")
    parser.add_argument("--split", default="")
    parser.add_argument("--normal", action="append", default=[])
    parser.add_argument("--gap", type=int, default=10)
    parser.add_argument("--grid", type=int, nargs=2, default=(6, 10))
    given = parser.parse_args()
    measure_drawn(given) if given.model is None else measure_tiled(given)


if __name__ == "__main__":
    main()
