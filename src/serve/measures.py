"""Metrics at /metrics, on requests and probabilities but never on the texts that were read."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.latency = Histogram(
            "plates_request_seconds", "Time from a request's headers to the end of its response",
            ["route", "status"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.batch = Histogram(
            "plates_batch_pictures", "Number of images in a batch",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=registry,
        )  # fmt: skip
        self.compute = Histogram(
            "plates_batch_seconds", "Time to decode and read a batch", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.queue = Gauge("plates_queue_pictures", "Number of images waiting", registry=registry)
        self.rejections = Counter(
            "plates_rejections", "Number of refused requests and images", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.skipped = Counter(
            "plates_skipped",
            "Number of images skipped since no client was waiting",
            registry=registry,
        )
        self.confidence = Histogram(
            "plates_confidence", "Highest confidence in each image with a plate",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0),
            registry=registry,
        )  # fmt: skip
        self.images = Counter(
            "plates_pictures", "Number of images read, with a text, only a plate, or nothing",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.without_plate = Gauge(
            "plates_without_plate_ratio", "Proportion of images read without a plate",
            registry=registry,
        )  # fmt: skip
        self.clips = Counter(
            "plates_clips", "Number of clips that were read, refused, failed, or whose sender left",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.clip_seconds = Counter(
            "plates_clip_seconds", "Seconds of video that were read in clips", registry=registry
        )
        self.events = Counter(
            "plates_events", "Number of events in clips, with a text or without", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.reloads = Counter(
            "plates_bundle_loads", "Number of bundles loaded or refused", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.captures = Counter(
            "plates_captures", "Number of images to be stored, by outcome", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.feedback = Counter(
            "plates_feedback", "Number of stored feedback entries", ["verdict"], registry=registry
        )
        self._read = self._empty = 0

    def image(self, texts: int, confidences: list[float]) -> None:
        """Count an image that was read.

        Args:
            texts: Number of its plates with a text.
            confidences: Confidences of all its plates.
        """
        self._read += 1
        self._empty += not confidences
        self.without_plate.set(self._empty / self._read)
        outcome = "text" if texts else "plate" if confidences else "nothing"
        self.images.labels(outcome).inc()
        if confidences:
            self.confidence.observe(max(confidences))
