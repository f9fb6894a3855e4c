"""What /metrics tells. The names are a contract: tests pin them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gemcut.generate.scheduler import Scheduler
from gemcut.serve.served_models import ServedModel

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)

_Reading = tuple[str, str, Callable[[Scheduler], float]]


def _cache_share(scheduler: Scheduler) -> float:
    return scheduler.cache.used / scheduler.cache.limit if scheduler.cache.limit else 0.0


_GAUGES: tuple[_Reading, ...] = (
    ("gemcut_texts_running", "Texts that are generated now.", lambda scheduler: scheduler.num_running),
    ("gemcut_texts_waiting", "Texts that wait for their turn.", lambda scheduler: scheduler.num_waiting),
    ("gemcut_cache_bytes", "Memory that running texts may need.", lambda scheduler: scheduler.cache.used),
    ("gemcut_cache_usage_ratio", "The same as a share of what they may take.", _cache_share),
)
_COUNTERS: tuple[_Reading, ...] = (
    (
        "gemcut_prompt_tokens",
        "Tokens of prompts that were computed.",
        lambda scheduler: scheduler.counters.prompt_tokens,
    ),
    (
        "gemcut_reused_tokens",
        "Tokens of prompts that other texts had computed before.",
        lambda scheduler: scheduler.counters.reused_tokens,
    ),
    (
        "gemcut_generated_tokens",
        "Tokens of answers.",
        lambda scheduler: scheduler.counters.generated_tokens,
    ),
)
_VLLM_GAUGES: tuple[_Reading, ...] = (
    ("vllm:num_requests_running", "Texts that are generated now.", lambda scheduler: scheduler.num_running),
    ("vllm:num_requests_waiting", "Texts that wait for their turn.", lambda scheduler: scheduler.num_waiting),
    ("vllm:kv_cache_usage_perc", "Share of the memory for keys and values, from 0 to 1.", _cache_share),
)


class Metrics:
    """Counts and times of one server.

    Args:
        models: Gives the models that are loaded now.
        is_ready: Whether new work is taken.
        has_vllm_names: Also give four gauges under vLLM's names, which gateways and autoscalers read.
    """

    def __init__(
        self, models: Callable[[], Iterable[ServedModel]], is_ready: Callable[[], bool], has_vllm_names: bool
    ) -> None:
        prometheus_client.disable_created_metrics()  # a second series for each counter, which nobody reads
        self.registry = registry = prometheus_client.CollectorRegistry(auto_describe=True)
        registry.register(_SchedulerCollector(models, is_ready, has_vllm_names))
        prometheus_client.ProcessCollector(registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> prometheus_client.Histogram:
            return prometheus_client.Histogram(name, text, ["model"], buckets=buckets, registry=registry)

        def counter(name: str, text: str, labels: list[str]) -> prometheus_client.Counter:
            return prometheus_client.Counter(name, text, labels, registry=registry)

        self._first_token = histogram(
            "gemcut_time_to_first_token_seconds", "From a request's arrival to its first token.", _SECONDS
        )
        self._inter_token = histogram(
            "gemcut_inter_token_seconds", "Between two tokens of a text, as they are handed over.", _TOKEN_SECONDS
        )
        self._request_seconds = histogram("gemcut_request_seconds", "From a request's arrival to its end.", _SECONDS)
        self._texts = counter("gemcut_texts_total", "Texts that ended, by reason.", ["model", "finish_reason"])
        self._http = counter("gemcut_http_requests_total", "Answers, by path and status.", ["path", "status"])
        self._errors = counter("gemcut_errors_total", "Answers and streams that ended in an error.", ["code"])
        self._rejected = counter("gemcut_requests_rejected_total", "Requests turned away.", ["reason"])
        self._cancelled = counter("gemcut_requests_cancelled_total", "Requests given up, by reason.", ["reason"])

        self._inter_token_of = functools.cache(lambda model: self._inter_token.labels(model).observe)

    def first_token(self, model: str, seconds: float) -> None:
        """A text's first token came `seconds` after its request."""
        self._first_token.labels(model).observe(seconds)

    def next_tokens(self, model: str, count: int, seconds: float) -> None:
        """`count` more tokens of a text came `seconds` after the one before."""
        observe = self._inter_token_of(model)
        for _ in range(count):
            observe(seconds / count)

    def text_ended(self, model: str, finish_reason: str) -> None:
        """A text ended."""
        self._texts.labels(model, finish_reason).inc()

    def request_ended(self, model: str, seconds: float) -> None:
        """A request that reached a model ended."""
        self._request_seconds.labels(model).observe(seconds)

    def answered(self, path: str, status: int) -> None:
        """An answer began; `path` is a route, so that there are few of them."""
        self._http.labels(path, str(status)).inc()

    def failed(self, code: str) -> None:
        """A request ended in an error, in its answer or in the middle of a stream."""
        self._errors.labels(code).inc()
        if code in ("queue_full", "draining", "loading"):
            self._rejected.labels(code).inc()

    def cancelled(self, reason: str) -> None:
        """A request was given up."""
        self._cancelled.labels(reason).inc()

    def text(self) -> bytes:
        """The page, in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)


class _SchedulerCollector(Collector):
    """Gauges and counters that the schedulers keep, read when somebody asks."""

    def __init__(
        self, models: Callable[[], Iterable[ServedModel]], is_ready: Callable[[], bool], has_vllm_names: bool
    ) -> None:
        self._models, self._is_ready, self._has_vllm_names = models, is_ready, has_vllm_names

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        models = list(self._models())
        ready = GaugeMetricFamily("gemcut_ready", "1 while new work is taken.")
        ready.add_metric([], float(self._is_ready()))
        yield ready
        for reading in _GAUGES:
            yield _family(GaugeMetricFamily, reading, models)
        for reading in _COUNTERS:
            yield _family(CounterMetricFamily, reading, models)
        if self._has_vllm_names:
            for reading in _VLLM_GAUGES:
                yield _family(GaugeMetricFamily, reading, models, label="model_name")
            yield _adapters(models)


def _family(kind: Any, reading: _Reading, models: list[ServedModel], label: str = "model") -> Metric:
    name, text, value = reading
    family = kind(name, text, labels=[label])
    for model in models:
        family.add_metric([model.name], float(value(model.scheduler)))
    return family


def _adapters(models: list[ServedModel]) -> Metric:
    """Which adapters run and wait, as vLLM's `lora_requests_info` has it: in labels."""
    adapters = [model for model in models if model.base]
    running = ",".join(model.name for model in adapters if model.scheduler.num_running)
    waiting = ",".join(model.name for model in adapters if model.scheduler.num_waiting)
    family = GaugeMetricFamily(
        "vllm:lora_requests_info",
        "Adapters with running and waiting texts.",
        labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    )
    family.add_metric([str(len(adapters)), running, waiting], 1.0)
    return family
