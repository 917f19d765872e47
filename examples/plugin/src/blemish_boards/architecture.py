"""Registers the architecture `boards-net`. Torch-free: the builder is named, not imported."""

from blemish.config.architectures import register

register(
    "boards-net",
    tasks=("classification", "multilabel"),
    summary="three convolutions for small boards",
    license="Apache-2.0",
    builder="blemish_boards.board_network:build",
    input_size=64,
)
