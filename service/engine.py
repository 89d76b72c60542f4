"""What answers requests: the models that are served, and whether they are there."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from service.catalog import model_folders
from service.lag import Lag
from service.model_host import ModelHost
from service.observer import Observe, Observer
from service.problems import ProblemError, unavailable
from service.served_model import Launch, Load, ServedModel
from service.settings import Settings

__all__ = ["Engine"]

_log: Final = logging.getLogger(__name__)


class Engine:
    """The models of one application: being loaded, served, reloaded, drained, stopped, or failed.

    Args:
        settings: What the deployment chose.
        load: See `Load`.
        launch: See `Launch`.
        observe: See `Observe`.

    Raises:
        ValueError: As `model_folders`.

    Attributes:
        hosts: Each model by its name; the first is the default. There is at least one.
        lag: Of the event loop that all of it runs on.
    """

    def __init__(self, settings: Settings, load: Load, launch: Launch, observe: Observe = lambda _: Observer()) -> None:
        folders = model_folders(settings.models, settings.model)
        self.hosts: Mapping[str, ModelHost] = MappingProxyType(
            {name: ModelHost(name, folder, settings, load, launch, observe) for name, folder in folders.items()}
        )
        self.lag = Lag()
        self._draining = False

    @property
    def default(self) -> str:
        """Name of the model that answers requests that name none."""
        return next(iter(self.hosts))

    @property
    def failure(self) -> Exception | None:
        """Why not one model could be loaded; None as long as there is one, or may be."""
        failures = [host.failure for host in self.hosts.values()]
        return failures[0] if all(failures) else None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load in the background, so that the server can already say that it is not ready; stop at the end."""
        tasks = [asyncio.create_task(host.start()) for host in self.hosts.values()]
        tasks.append(asyncio.create_task(self.lag.measure()))
        try:
            yield
        finally:
            self._draining = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(host.stop() for host in self.hosts.values()))

    async def drain(self) -> None:
        """Refuse new requests, and wait for those under way."""
        self._draining = True
        await asyncio.gather(*(host.drain() for host in self.hosts.values()))

    def host(self, name: str | None = None) -> ModelHost:
        """The model of this name, by default the first.

        Raises:
            ProblemError: The 404 that names those that there are.
        """
        found = self.hosts.get(self.default if name is None else name)
        if found is None:
            raise ProblemError(404, "no-such-model", f"there is no model {name}, only {', '.join(self.hosts)}")
        return found

    def ready(self, name: str | None = None) -> ServedModel:
        """What answers requests to a model now, by default the first.

        Raises:
            ProblemError: The 404 of `host`, or the 503 that says why there is nothing.
        """
        host = self.host(name)
        self._refuse_draining()
        return host.ready()

    def require_all(self) -> None:
        """Raise the 503 that says why, unless every model is ready.

        Raises:
            ProblemError: That.
        """
        self._refuse_draining()
        for name, host in self.hosts.items():
            try:
                host.ready()
            except ProblemError as error:
                detail = error.detail if len(self.hosts) == 1 else f"{name}: {error.detail}"
                raise unavailable(error.slug, detail) from error

    @contextlib.contextmanager
    def serving(self, name: str | None = None) -> Iterator[ServedModel]:
        """For one request: what answers it, which stays there until the request is done.

        Raises:
            ProblemError: As `ready`.
        """
        model = self.ready(name)
        with model.serving():
            yield model

    async def reload(self, name: str) -> ServedModel:
        """As `ModelHost.reload`.

        Raises:
            ProblemError: As that and as `ready`.
        """
        host = self.host(name)
        self._refuse_draining()
        return await host.reload()

    async def reload_all(self) -> None:
        """Reload one model after another, and log what fails."""
        for name in self.hosts:
            try:
                await self.reload(name)
            except ProblemError as error:
                _log.warning("%s is not reloaded: %s", name, error.detail)

    def _refuse_draining(self) -> None:
        if self._draining:
            raise unavailable("stopping", "the service is stopping")
