"""The connection to a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from blemish.archives import Job
from blemish.errors import BlemishError, EngineFailed, MissingExtra


def import_ray() -> Any:
    """Return the module `ray`, with `ray.data` imported and usage reports disabled.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Blemish sends nothing anywhere
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise MissingExtra("ray", "predicting on a Ray cluster") from error
    return ray


def connect() -> Any:
    """Return the module `ray`, connected: to RAY_ADDRESS, or to a running or a new cluster of this machine.

    Raises:
        EngineFailed: the cluster cannot be reached.
        MissingExtra: Ray is not installed.
    """
    ray = import_ray()
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=None, logging_level="ERROR")
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise EngineFailed(
                f"the Ray cluster cannot be reached ({_last_line(error)}). Check RAY_ADDRESS, or remove it "
                "to start Ray on this machine.",
                reason="connection",
            ) from error
    return ray


def worker_job(job: Job) -> Job:
    """Return the job of one worker: a worker computes in one thread unless the job names a number."""
    return replace(job, threads=job.threads or 1)


def worker_count(ray: Any, job: Job, wanted: int | None) -> int:
    """Return the number of workers: `wanted`, or as many as the cluster has processors for."""
    if wanted is not None:
        return wanted
    processors = ray.cluster_resources().get("CPU", 1)
    return max(int(processors // (worker_job(job).threads or 1)), 1)


@contextmanager
def ordered(ray: Any) -> Iterator[None]:
    """Create datasets that keep the order of their rows and print no progress, within the block."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    before = (context.execution_options.preserve_order, context.enable_progress_bars)
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
        logger.setLevel(level)


@contextmanager
def cluster_errors(ray: Any) -> Iterator[None]:
    """Raise the errors of a cluster as `EngineFailed`, and those of workers as they are.

    Raises:
        EngineFailed: the cluster failed.
    """
    try:
        yield
    except BlemishError:
        raise
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BlemishError):
                raise cause from error
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise EngineFailed(
            f"the Ray cluster failed ({_last_line(error)}). Continue with --resume.", reason="cluster"
        ) from error


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:200]
