"""Registers the command `blemish boards`."""

from blemish.commands import register_command

register_command("boards", "blemish_boards.boards_command:boards", "Count the boards of a list.")
