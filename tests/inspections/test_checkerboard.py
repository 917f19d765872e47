"""The size of a pixel from drawn checkerboards of known scale."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("skimage")

from blemish import cli
from blemish.data.synthetic import modules, save_image
from blemish.geometry import homography_from_points, invert_homography, map_points
from blemish.imaging import LoadedImage
from blemish.inspections.checkerboard import find_checkerboard
from blemish.testing import raises


def draw_board(angle=0.0, tilt=0.0, field=24.0, columns=9, rows=7, seed=0, noise=4.0):
    """Return an image of a board, and its true homography from fields to pixels."""
    turn = np.radians(angle)
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], float)
    centered = (corners - (columns / 2, rows / 2)) * field
    rotated = centered @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    depth = 1 + tilt * rotated[:, :1] / (columns * field)
    matrix = homography_from_points(corners, rotated / depth + (200.0, 150.0))
    ticks = np.arange(0, 3, dtype=float) / 3 + 1 / 6
    y, x = np.meshgrid(np.arange(300), np.arange(400), indexing="ij")
    total = np.zeros((300, 400))
    for dx in ticks:
        for dy in ticks:  # antialiased
            points = map_points(invert_homography(matrix), np.stack([x.ravel() + dx, y.ravel() + dy], 1))
            inside = ((points >= 0) & (points < (columns, rows))).all(1)
            parity = np.floor(points).astype(int).sum(1) % 2
            total += np.where(inside, 40 + 180 * parity, 128).reshape(total.shape)
    total = total / 9 + np.random.default_rng(seed).normal(0, noise, total.shape)
    gray = np.clip(total, 0, 255).astype(np.uint8)
    return LoadedImage(np.repeat(gray[..., None], 3, 2)), matrix


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 80])
def test_find_checkerboard_gives_the_true_scale(angle):
    image, _ = draw_board(angle)
    board = find_checkerboard(image)
    assert board.residual < 0.25 and len(board.corners) >= 45
    scale = board.scale(10)
    assert scale.mm_per_pixel == pytest.approx(10 / 24, rel=0.003)
    assert scale.relative_error < 0.01


def test_the_error_of_a_tilted_board_covers_the_change_of_the_scale():
    image, matrix = draw_board(15, tilt=0.3)
    board = find_checkerboard(image)
    scale = board.scale(10)
    middle = map_points(matrix, np.array([[4.0, 3], [5, 3], [5, 4], [4, 4]]))
    x, y = middle.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert scale.mm_per_pixel == pytest.approx(10 / np.sqrt(area), rel=2 * scale.relative_error)
    assert 0.03 < scale.relative_error < 0.2


def test_find_checkerboard_refuses_what_is_none():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for image in (LoadedImage(noise), LoadedImage(noise * 0), next(modules(1, 6, size=600)).image):
        with raises("bad-input.no-checkerboard"):
            find_checkerboard(image)
    with raises("bad-input.scale"):
        find_checkerboard(draw_board()[0]).scale(0)


def test_scale_command_prints_what_add_needs(tmp_path, monkeypatch, capsys):
    save_image(draw_board(20)[0], tmp_path / "board.png")
    words = ["blemish", "inspections", "scale", str(tmp_path / "board.png"), "--field", "10"]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert exit_.value.code == 0
    plain, _, document = capsys.readouterr().out.partition("{")
    assert "--mm-per-pixel" in plain
    assert json.loads("{" + document)["mm_per_pixel"] == pytest.approx(10 / 24, rel=0.003)
