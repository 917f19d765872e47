"""The commands of `blemish`, one module each, and the registry that the command line reads.

A command imports what it needs when it runs, so that `blemish --help` stays fast. A package adds a command
through an entry point in the group `blemish.commands` whose module calls `register_command`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from blemish.registry import Registry


class Command(NamedTuple):
    """One command of the command line, not imported yet.

    Attributes:
        module: the module that contains it, such as "my_package.count_command".
        attribute: the function, or the `typer.Typer` with subcommands, in that module.
        summary: one line for the overview of `blemish --help`.
    """

    module: str
    attribute: str
    summary: str

    def load(self) -> Any:
        """Import the module and return the function or the `typer.Typer`."""
        from importlib import import_module

        return getattr(import_module(self.module), self.attribute)


COMMANDS: Registry[Command] = Registry("commands", noun="command")


def register_command(name: str, target: str, summary: str) -> Command:
    """Add a command to the command line and return its entry.

    Args:
        name: what users type after `blemish`.
        target: "module:attribute" of a function that Typer can run, or of a `typer.Typer` with subcommands.
            The module is imported only when the command is called.
        summary: one line for the overview of `blemish --help`.

    Raises:
        DuplicateName: another module has registered `name`.

    Example:
        >>> register_command("count-scratches", "my_package.count:main", "Count scratches.").module
        'my_package.count'
        >>> COMMANDS.unregister("count-scratches")
    """
    module, _, attribute = target.partition(":")
    command = Command(module, attribute, summary)
    COMMANDS.register(name, command, module=module)
    return command


_SUMMARIES = {
    "demo": ("demo_command:demo", "Train and evaluate a model on 2,624 images of solar cells."),
    "data": ("data_command:app", "Check, count, draw, split, convert and merge labeled images."),
    "train": ("train_command:train", "Train a model on labeled images and write its model file."),
    "tune": ("tune_command:tune", "Search for the recipe with the best validation metric."),
    "predict": ("predict_command:predict", "Run a model file on images, folders and videos."),
    "evaluate": ("evaluate_command:evaluate", "Measure a model file on labeled images."),
    "calibrate": (
        "calibrate_command:calibrate",
        "Store scores of labeled images in a model file, for --risk.",
    ),
    "drift": ("drift_command:drift", "Compare images with those that a model was trained on."),
    "explain": ("explain_command:explain", "Draw heatmaps of the regions behind a prediction."),
    "inspections": ("inspections_command:app", "Keep inspections: findings, reviews, comparisons, reports."),
    "serve": ("serve_command:serve", "Start the REST service and its web page."),
    "config": ("config_command:app", "List the built-in recipes and print every key of a recipe."),
    "models": ("models_command:models", "List the architectures that can be trained."),
    "info": ("info_command:info", "Print the contract of a model file."),
    "export": ("export_command:export", "Write the model file of a run again, in another precision."),
    "import": ("import_command:import_model", "Convert weights trained elsewhere to a model file."),
    "push": ("push_command:push", "Publish a model file on the Hugging Face Hub or in MLflow."),
    "benchmark": ("benchmark_command:benchmark", "Measure the speed of a model file on this machine."),
    "compare": ("compare_command:compare", "Compare model files on the same images."),
    "plugins": ("plugins_command:plugins", "List the installed plug-ins."),
}
BUILTIN = {
    name: register_command(name, f"{__name__}.{target}", summary)
    for name, (target, summary) in _SUMMARIES.items()
}
