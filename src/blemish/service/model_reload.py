"""Replace a model of the running service by a new file, without a refused request."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from blemish.errors import BlemishError
from blemish.model_file import read_model_file
from blemish.service.inference_service import InferenceService
from blemish.service.problem_details import Problem
from blemish.service.served_model import ServedModel

log = logging.getLogger("blemish.service")

_RETIRE_SECONDS = 0.5  # between two searches for replaced models that have answered their last image
FileState = tuple[int, int, int] | None  # inode, size and time of change; None without a file


class ModelReloader:
    """Loads changed model files beside the models that answer, and exchanges them.

    An image is answered by the model that was current when it entered the queue, to the end: a replaced model
    is closed once it has answered its last one. A file that cannot be served leaves the old model in place.
    """

    def __init__(
        self, service: InferenceService, *, backend: str = "auto", threads: int | None = None
    ) -> None:
        """Remember the files as they are.

        Args:
            service: its `models` are replaced.
            backend: the backend, as for `blemish.inference.load`.
            threads: number of threads for each network; None uses one for each core.
        """
        self._service, self._backend, self._threads = service, backend, threads
        self._locks = {name: asyncio.Lock() for name in service.models}
        self._seen = {name: _state_of(model.model_file.path) for name, model in service.models.items()}
        self._retired: list[ServedModel] = []

    async def reload(self, name: str) -> ServedModel:
        """Load the file of a model if it has changed, and return the model that answers from now on.

        Raises:
            Problem: `unknown-model`, or `reload-failed`: the old model continues to answer.
        """
        if name not in self._service.models:
            raise self._service.unknown_model_problem()
        async with self._locks[name]:
            current = self._service.models[name]
            path = current.model_file.path
            self._seen[name] = _state_of(path)
            try:
                candidate = await asyncio.to_thread(self._load, name, path, current)
            except Exception as error:
                self._service.metrics.reloads.labels(model=name, outcome="failed").inc()
                if isinstance(error, BlemishError):
                    log.error("the model %s was not replaced: %s", name, error)
                else:
                    log.exception("the model %s was not replaced", name)
                raise Problem(
                    "reload-failed",
                    f"The file of the model {name!r} cannot be served, so the model before it continues to"
                    " answer; the server's log has the cause.",
                ) from error
            if candidate is current:
                return current
            self._service.replace_model(candidate)
            self._retired.append(current)
            self._service.metrics.reloads.labels(model=name, outcome="replaced").inc()
            log.info("the model %s was replaced: %s", name, candidate.model_file.digest)
            return candidate

    def _load(self, name: str, path: Path, current: ServedModel) -> ServedModel:
        """Return a model that has answered a warm-up image, or `current` if its file is unchanged."""
        model_file = read_model_file(path)
        if model_file.digest == current.model_file.digest and current.ready:
            return current
        candidate = ServedModel(name, model_file, self._service.settings, self._service.metrics)
        try:
            candidate.start(backend=self._backend, threads=self._threads)
            if read_model_file(path).digest != model_file.digest:
                raise BlemishError(f"{path}: the file changed while it was loaded")
        except BaseException:
            candidate.close()
            raise
        return candidate

    async def watch(self, seconds: float) -> None:
        """Reload the models whose files change, until the task is canceled.

        Args:
            seconds: time between two checks of the files.
        """
        while True:
            await asyncio.sleep(seconds)
            for name, model in list(self._service.models.items()):
                state = await asyncio.to_thread(_state_of, model.model_file.path)
                if state is None or state == self._seen[name]:
                    continue
                try:
                    await self.reload(name)
                except Problem:
                    continue  # logged; tried again when the file changes again

    async def close_retired(self) -> None:
        """Close replaced models once they have answered their last image, until the task is canceled."""
        while True:
            await asyncio.sleep(_RETIRE_SECONDS)
            for model in [m for m in self._retired if not m.queue.size]:
                self._retired.remove(model)
                await asyncio.to_thread(model.close)

    def close(self) -> None:
        """Close every replaced model."""
        for model in self._retired:
            model.close()
        self._retired.clear()


def _state_of(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_may_reload(client: str) -> None:
    """Refuse a client that has no API key and is not on this machine.

    Args:
        client: see `blemish.service.middleware.get_client`.

    Raises:
        Problem: `reload-forbidden`.
    """
    if not client.startswith(("key:", "address:127.", "address:::1", "address:::/64")):
        raise Problem(
            "reload-forbidden",
            "Models are reloaded by clients with an API key, and by those on the server's own machine.",
        )
