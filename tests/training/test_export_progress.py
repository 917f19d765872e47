"""After training, the export and the number of verified images are shown on standard error."""

import pytest

from blemish.training.export_progress import ExportProgress
from blemish.training.run import train


def test_export_progress_shows_the_number_of_verified_images(capsys):
    with ExportProgress() as report_progress:
        report_progress("verifying", 1, 2)
        report_progress("verifying", 2, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["exporting", "verifying 2 of 2"]


def test_export_progress_is_quiet(capsys):
    with ExportProgress(quiet=True) as report_progress:
        report_progress("verifying", 1, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("exported")
def test_train_shows_its_export(recipe, tmp_path, capsys):
    run = train(recipe(training__epochs=1), output=tmp_path / "run", device="cpu", progress=True)
    count = sum("val" in line for line in (run.path / "split.csv").read_text().splitlines())
    assert f"verifying {count} of {count}" in capsys.readouterr().err
