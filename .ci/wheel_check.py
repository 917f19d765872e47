"""Use an installed wheel without any extra; the argument is the path of `blemish`."""

import json
import subprocess
import sys
from pathlib import Path


def run(*arguments, expected=0):
    """Run one command and return its standard output."""
    done = subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == expected, (
        f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def main():
    import blemish

    assert "site-packages" in str(Path(blemish.__file__)), blemish.__file__
    assert (Path(blemish.__file__).parent / "py.typed").is_file()
    assert blemish.__version__ in run("--version")
    assert all(name in run("--help") for name in ("train", "predict", "serve"))
    run("data", "synthesize", "vehicles", "--count", "8", "--size", "48", "--output", "photos")
    run("data", "preview", "photos", "--output", "grid.png")
    run("data", "stats", "photos", "--json")
    recipes = run("config", "list")
    assert "solar-defective" in recipes, recipes  # the recipes are part of the wheel
    error = json.loads(run("info", "missing.onnx", "--json", expected=2))
    assert error["error"]["code"].startswith("bad-model-file"), error
    missing = json.loads(run("train", "--data", "photos", "--json", expected=2))
    assert missing["error"]["code"].startswith("missing-extra"), missing
    page = Path(blemish.__file__).parent / "service" / "page" / "index.html"
    assert page.is_file(), "the web page is not part of the wheel"
    print(f"blemish {blemish.__version__} works from its wheel")


if __name__ == "__main__":
    main()
