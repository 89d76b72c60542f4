"""What Prometheus is told: counted as it happens, or read when it asks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from pcdm_core.scoring import Score
from service.lag import Lag
from service.model_host import ModelHost
from service.observer import DispatchReason
from service.served_model import ServedModel

__all__ = ["Metrics"]

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)
Verdict = Literal["normal", "ood", "uncalibrated"]

_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 300)
_BATCH_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_UNITS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Of any detector: nats per feature of a mixture, mostly below 1 for normal images, or a squared distance in hundreds.
_SCORES: Final = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
# The usual levels, so that each bucket counts what would be flagged at it.
_P_VALUES: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Metrics:
    """The metrics of one application, in a registry of their own. All methods belong to the event loop.

    Attributes:
        registry: To be exposed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[tuple[object, ...], Any] = {}
        model = ("model",)
        self._requests = self._counter("requests", "Requests that were answered.", ("method", "route", "status"))
        self._request_seconds = self._histogram(
            "request_duration_seconds",
            "From the head of a request to the end of its answer.",
            _REQUEST_SECONDS,
            ("route",),
        )
        self._refused = self._counter("refused", "Requests answered with a problem document.", ("reason",))
        self._images = self._counter("images", "Images answered.", ("model", "verdict"))
        self._network_calls = self._counter("network_calls", "Evaluations of a network for images answered.", model)
        self._scores = self._histogram(
            "score", "Scores of images, higher for more out of distribution.", _SCORES, model
        )
        self._p_values = self._histogram("p_value", "Conformal p-values of images.", _P_VALUES, model)
        self._batches = self._counter("batches", "Batches run, by why they left when they did.", ("model", "reason"))
        self._batch_units = self._histogram("batch_units", "Units that shared a batch.", _BATCH_UNITS, model)
        self._batch_seconds = self._histogram("batch_duration_seconds", "Time of a batch.", _BATCH_SECONDS, model)
        self._lag = Gauge(
            "pcdm_event_loop_lag_seconds", "How long a request waits until it is read.", registry=self.registry
        )

    def _counter(self, name: str, documentation: str, labels: Sequence[str]) -> Counter:
        return Counter(f"pcdm_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float], labels: Sequence[str]) -> Histogram:
        return Histogram(f"pcdm_{name}", documentation, labels, registry=self.registry, buckets=buckets)

    def _of(self, metric: _Metric, *labels: str | int) -> _Metric:
        """What counts under these labels: looked up here, as the library does so under a lock, and checks them anew."""
        found = self._known.get((metric, *labels))
        if found is None:
            found = self._known[metric, *labels] = metric.labels(*labels)
        return found

    def watch(self, hosts: Callable[[], Iterable[ModelHost]], lag: Lag) -> None:
        """Read the state of the models to be served, and of the event loop, whenever the metrics are asked for."""
        self.registry.register(_Models(hosts))
        self._lag.set_function(lambda: lag.seconds)

    def begin(self, model: str) -> None:
        """Show a model's counts from zero on, as a rate over a count that was not there says nothing."""
        for verdict in get_args(Verdict):
            self._of(self._images, model, verdict)
        for reason in get_args(DispatchReason):
            self._of(self._batches, model, reason)
        for metric in (self._network_calls, self._scores, self._p_values, self._batch_units, self._batch_seconds):
            self._of(metric, model)

    def request(self, method: str, route: str, status: int, seconds: float, *, refused: str | None) -> None:
        """Count a request.

        Args:
            method: Of HTTP, one of few.
            route: The template, never the path: paths are without number.
            status: Of the answer.
            seconds: That it took.
            refused: Slug of the problem that it was answered with, if it was.
        """
        self._of(self._requests, method, route, status).inc()
        self._of(self._request_seconds, route).observe(seconds)
        if refused is not None:
            self._of(self._refused, refused).inc()

    def batch(self, model: str, units: int, reason: DispatchReason, seconds: float) -> None:
        """Count a batch."""
        self._of(self._batches, model, reason).inc()
        self._of(self._batch_units, model).observe(units)
        self._of(self._batch_seconds, model).observe(seconds)

    def answered(self, served: ServedModel, results: Iterable[Score], detector: str | None) -> None:
        """Count the images of a request that is answered, and let their p-values into the model's window of drift.

        Scores and p-values of another detector than the default are left out: they would be in other units, and of a
        choice of images.
        """
        model, default = served.name, detector == served.scorer.detector
        p_values = []
        for one in results:
            verdict: Verdict = "uncalibrated" if one.is_ood is None else "ood" if one.is_ood else "normal"
            self._of(self._images, model, verdict).inc()
            self._of(self._network_calls, model).inc(one.network_calls)
            if default and one.score is not None:
                self._of(self._scores, model).observe(one.score)
            if default and one.p_value is not None:
                self._of(self._p_values, model).observe(one.p_value)
                p_values.append(one.p_value)
        if served.drift is not None:
            served.drift.add(p_values)


class _Models(Collector):
    """What is a state and not a count, read when it is asked for."""

    def __init__(
        self,
        hosts: Callable[[], Iterable[ModelHost]],
    ) -> None:
        self._hosts = hosts

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """Read it."""
        label = ["model"]
        units = GaugeMetricFamily("pcdm_queue_units", "Units that wait or run.", labels=label)
        cost = GaugeMetricFamily(
            "pcdm_queue_cost", "Work that waits or runs, in evaluations of the largest network.", labels=label
        )
        up = GaugeMetricFamily("pcdm_worker_up", "Whether a worker that runs the model is up.", labels=label)
        restarts = CounterMetricFamily("pcdm_worker_restarts", "Workers started in the place of another.", labels=label)
        statistic = GaugeMetricFamily(
            "pcdm_drift_statistic", "Distance of recent p-values from the calibration's, 0 to 1.", labels=label
        )
        p_value = GaugeMetricFamily(
            "pcdm_drift_p_value", "Probability of such a distance if nothing has changed.", labels=label
        )
        info = InfoMetricFamily("pcdm_model", "The models that are served.", labels=label)
        for host in self._hosts():
            name, model = [host.name], host.current
            if host.state != "loading":  # one that cannot be loaded has no worker, and somebody should know
                up.add_metric(name, host.state == "ready")
            if model is None:
                continue
            units.add_metric(name, model.batcher.pending)
            cost.add_metric(name, model.batcher.backlog)
            restarts.add_metric(name, model.runners.restarts)
            drift = None if model.drift is None else model.drift.report()
            if drift is not None:
                statistic.add_metric(name, drift.statistic)
                p_value.add_metric(name, drift.p_value)
            info.add_metric(
                name,
                {
                    "digest": model.scorer.digest,
                    "detector": model.scorer.detector or "",
                    "alpha": str(model.alpha_of(model.scorer) or ""),
                    "calibration_size": str(model.scorer.calibration_size or 0),
                    "device": model.runners.device or "",
                },
            )
        return units, cost, up, restarts, statistic, p_value, info
