"""Colormaps: perceptually uniform by default, jet on request; and overlays on an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import UnknownName

# Every fifth of 256 colors, six hex digits each; the colors between them are interpolated.
# Source: matplotlib's tables of the same names (CC0), within 5/255.
_TABLES = {
    "viridis": (
        "44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a3a538b38598c355e8d"
        "33638d31688e2e6d8e2c718e2a768e297b8e27808e25848e23898e218e8d20928c1f978b1e9c891fa18821a58524aa83"
        "28ae802eb37c35b7793dbc7446c06f50c46a5ac86465cb5e70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11f"
        "d8e219e5e419f1e51dfde725"
    ),
    "inferno": (
        "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69166e"
        "71196e781c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3ddf5337"
        "e45a31e9612bed6925f1711ff47918f78212f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d746f4e156"
        "f2ea69f2f27df5f992fcffa4"
    ),
    "cividis": (
        "00224e002656002a5f002d68003070083370163770203a6f273e6e2e416d34456c3a486c3f4c6c444f6c49536c4e566c"
        "535a6d575d6d5c616e60646f656870696b716d6f727272747676767a7a787e7d788381798885788d8878928c78969077"
        "9b9476a09875a59c74aaa073afa471b5a86fbaac6dbfb06bc4b468c9b965cfbd62d4c15fdac65bdfca57e5cf52ead34c"
        "f0d846f6dd3ffce236fee838"
    ),
}
# Position and level of each corner. Not perceptually uniform: it shows edges where the heatmap has none.
_JET = (
    ((0, 0.35, 0.66, 0.89, 1), (0, 0, 1, 1, 0.5)),
    ((0, 0.125, 0.375, 0.64, 0.91, 1), (0, 0, 1, 1, 0, 0)),
    ((0, 0.11, 0.34, 0.65, 1), (0.5, 1, 1, 0, 0)),
)
COLORMAPS = (*_TABLES, "jet")


def color_table(name: str) -> NDArray[np.uint8]:
    """Return the (256, 3) uint8 RGB colors of a colormap, from the smallest value to the largest.

    Args:
        name: `viridis`, `inferno`, `cividis` or `jet`.

    Raises:
        UnknownName: no colormap has that name.

    Example:
        >>> color_table("viridis")[[0, 255]].tolist()
        [[68, 1, 84], [253, 231, 37]]
    """
    positions = np.arange(256)
    if name == "jet":
        levels = [np.interp(positions / 255, at, level) * 255 for at, level in _JET]
    elif name in _TABLES:
        anchors = np.frombuffer(bytes.fromhex(_TABLES[name]), np.uint8).reshape(-1, 3)
        levels = [np.interp(positions, np.arange(0, 256, 5), anchors[:, c]) for c in range(3)]
    else:
        raise UnknownName("colormap", name, COLORMAPS)
    return np.stack(levels, 1).round().astype(np.uint8)


def overlay(
    image: Image.Image, values: NDArray[np.floating], *, colormap: str = "viridis", opacity: float = 0.5
) -> Image.Image:
    """Return the image with a heatmap over it, RGB, of the image's size.

    Args:
        image: the upright image.
        values: (h, w) in [0, 1], of the image's size.
        colormap: `viridis`, `inferno`, `cividis` or `jet`.
        opacity: of the heatmap: 0 shows the image alone, 1 the heatmap alone.
    """
    levels = np.clip(values * 255, 0, 255).round().astype(np.uint8)
    return blend_levels(image, Image.fromarray(levels), colormap=colormap, opacity=opacity)


def blend_levels(
    image: Image.Image, levels: Image.Image, *, colormap: str = "viridis", opacity: float = 0.5
) -> Image.Image:
    """Return the image with a heatmap of 8 bits over it; needs 8 bytes of memory for each pixel.

    Args:
        image: the upright image.
        levels: mode L, of the image's size; 255 is the largest value.
        colormap: see `overlay`.
        opacity: see `overlay`.
    """
    colored = levels.copy()
    colored.putpalette(color_table(colormap).tobytes())
    return Image.blend(image.convert("RGB"), colored.convert("RGB"), opacity)
