"""How many batches and optimizer steps an epoch has."""

from __future__ import annotations


def count_batches(count: int, batch_size: int, world: int = 1) -> int:
    """Return the number of training batches per epoch and process.

    A last batch of one image is left out unless it is the only one, because batch normalization cannot be
    trained on a single image; the next epoch draws another order.

    Args:
        count: number of training images.
        batch_size: images per batch and process.
        world: number of processes that share the images.

    Example:
        >>> count_batches(10, 4), count_batches(9, 4), count_batches(1, 4)
        (3, 2, 1)
    """
    full, rest = divmod(-(-count // world), batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def count_steps(batches: int, accumulate_grad_batches: int) -> int:
    """Return the number of optimizer steps of an epoch; the last one may have fewer batches.

    Example:
        >>> count_steps(5, 2)
        3
    """
    return -(-batches // accumulate_grad_batches)
