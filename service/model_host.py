"""One name of a model: what is loaded under it, and how that gives way to what its folder holds later."""

import asyncio
import contextlib
import contextvars
import functools
import logging
from pathlib import Path
from typing import Final, Literal

from pcdm_core.scoring import named_detector
from service.observer import Observe
from service.problems import ProblemError, unavailable
from service.runner import RefusedError, WorkerDiedError
from service.served_model import Launch, Load, ServedModel, load_prepared
from service.settings import Settings

__all__ = ["ModelHost", "ModelState"]

_log: Final = logging.getLogger(__name__)

_FAILED: Final = "the model could not be loaded; the log says why"

ModelState = Literal["loading", "ready", "restarting", "failed"]


class ModelHost:
    """Loads the model of one folder, and loads it anew when told to. All methods belong to the event loop.

    Args:
        name: Of the model.
        folder: May be a link: whatever is loaded stays with the folder to which it led at that time.
        settings: What the deployment chose.
        load: See `Load`.
        launch: See `Launch`.
        observe: See `Observe`.

    Attributes:
        name: Of the model.
        current: What answers new requests; None as long as nothing could be loaded.
        failure: Why nothing could be loaded; None if it could, or is not yet.
    """

    def __init__(
        self, name: str, folder: Path, settings: Settings, load: Load, launch: Launch, observe: Observe
    ) -> None:
        self.name = name
        self.current: ServedModel | None = None
        self.failure: Exception | None = None
        self._folder = folder
        self._settings = settings
        self._load = load
        self._launch = launch
        self._observe = observe
        self._has_been_up = False
        self._reloading: asyncio.Task[ServedModel] | None = None
        # The one that was replaced, as long as requests or its worker are left of it.
        self._retiring: asyncio.Task[None] | None = None

    @property
    def state(self) -> ModelState:
        """Whether it answers requests, or why it does not."""
        if self.current is None:
            return "loading" if self.failure is None else "failed"
        if self.current.runners.up:
            return "ready"
        return "restarting" if self._has_been_up else "loading"

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in a sentence; None if it is."""
        if self.state == "ready":
            return None
        if self.failure is not None:
            return f"the model could not be loaded: {self.failure}" if _is_unfit(self.failure) else _FAILED
        return (
            "the model is being loaded" if self.current is None else "the worker that runs the model is being started"
        )

    def ready(self) -> ServedModel:
        """What answers requests now.

        Raises:
            ProblemError: The 503 that says why there is nothing.
        """
        if self.current is not None and self.current.runners.up:
            return self.current
        raise unavailable("not-ready", _FAILED if self.failure is not None else str(self.reason))

    async def start(self) -> None:
        """Load for the first time, and wait for the worker however often that fails, unless it is refused."""
        try:
            model = await self._build()
        except Exception as error:
            self.failure = error
            _log.error("cannot load the model in %s: %s", self._folder, error, exc_info=not _is_unfit(error))
            return
        self.current = model
        try:
            await model.runners.until_up()
        except RefusedError as error:
            _log.error("cannot run the model in %s: %s", self._folder, error)
            await model.stop()
            self.current, self.failure = None, error
            return
        self._has_been_up = True
        _log.info("serving %s (%s)", self.name, model.scorer.digest)

    async def reload(self) -> ServedModel:
        """Load what the folder holds now, beside what is served; once its worker is up, let it take over.

        Requests under way are finished by the model with which they began, whose worker then ends. When anything
        fails, all is as before. A caller that goes away does not stop it.

        Raises:
            ProblemError: 409, it is being loaded already; 422, the folder is unfit; 500, it cannot be run.
        """
        if self._reloading is not None or (self.current is None and self.failure is None):
            raise ProblemError(409, "reload-under-way", f"{self.name} is being loaded already", retry_after=1)
        reloading = self._reloading = asyncio.create_task(self._reload())
        reloading.add_done_callback(self._end_reload)
        try:
            return await asyncio.shield(reloading)
        except asyncio.CancelledError:
            if reloading.cancelled():
                raise unavailable("stopping", "the service is stopping; nothing was reloaded") from None
            raise

    def _end_reload(self, reloading: asyncio.Task[ServedModel]) -> None:
        self._reloading = None
        if not reloading.cancelled():
            reloading.exception()  # seen, even where nobody waits for it any more

    async def _reload(self) -> ServedModel:
        if self._retiring is not None:
            await asyncio.wait([self._retiring])  # so that there are never three
        try:
            new = await self._build()
            try:
                await new.runners.until_started()
            except BaseException:
                await new.stop()
                raise
        except Exception as error:
            unfit = _is_unfit(error)
            told = unfit or isinstance(error, WorkerDiedError)
            _log.error("cannot reload %s from %s: %s", self.name, self._folder, error, exc_info=not told)
            kept = "the model that was there stays" if self.current is not None else "there is still none"
            # Of a traceback, what was raised.
            why = str(error).strip().splitlines()[-1] if told else "an unexpected error, which the log has"
            detail = f"{why}; {kept}"
            status = 422 if unfit and not isinstance(error, RefusedError) else 500
            raise ProblemError(status, "reload-failed", detail) from error
        old, self.current, self.failure, self._has_been_up = self.current, new, None, True
        _log.info("serving %s (%s), reloaded", self.name, new.scorer.digest)
        if old is not None:
            self._retiring = asyncio.create_task(self._retire(old))
        return new

    async def drain(self) -> None:
        """Give up a reload, and wait for the requests under way, of the model that was replaced too."""
        if self._reloading is not None:
            self._reloading.cancel()
        if self._retiring is not None:
            await asyncio.wait([self._retiring])
        if self.current is not None:
            await self.current.until_idle()

    async def stop(self) -> None:
        """Fail what is under way, and end the workers."""
        for task in (self._reloading, self._retiring):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ProblemError):
                    await task
        if self.current is not None:
            await self.current.stop()

    async def _build(self) -> ServedModel:
        settings, folder = self._settings, self._folder.resolve()
        scorer = await asyncio.to_thread(self._load, folder)
        detector, known = settings.detector, scorer.detectors
        judge = scorer if detector is None else named_detector(known, detector, model=self.name)
        load = functools.partial(load_prepared, self._load, settings.execution)
        # Its tasks outlive the request that asked for it, and must not log under that request's name.
        return contextvars.Context().run(
            lambda: ServedModel(
                self.name,
                judge,
                known,
                [self._launch(load, folder, scorer) for _ in range(settings.worker_count)],
                settings,
                self._observe,
            )
        )

    @staticmethod
    async def _retire(old: ServedModel) -> None:
        try:
            await old.until_idle()
        finally:
            await old.stop()


def _is_unfit(error: Exception) -> bool:
    """Whether its message alone explains what is wrong with a folder; all else is a fault of ours, to be traced."""
    return isinstance(error, (ValueError, OSError))
