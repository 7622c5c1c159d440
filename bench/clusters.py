"""What a recognizer learns from few kinds of data or noisy labels: a stage of experiments/clusters.

    cd experiments/clusters
    dvc exp run -S train=noisy     # or clean, one, two
    dvc exp show --no-pager

Crops of the training set are clustered by the features of the trained recognizer (k-means, cosine
distance). A small recognizer is trained from scratch on the same number of crops for the same time:

- ``clean``: crops of all clusters;
- ``noisy``: the same, but the texts of the largest cluster are exchanged with each other;
- ``one``: crops of the largest cluster only;
- ``two``: crops of the two largest clusters.

All are evaluated on the same crops from the validation set: the exact-match accuracy in the largest
cluster and in the others, the mean confidence, its standard deviation over passes with dropout, and the
expected calibration error. The parameters are in experiments/clusters/params.yaml.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.config import Config, load_config
from src.core.errors import UserError
from src.evaluation.metrics import calibration_error, wilson
from src.inference.decoding import decode
from src.models.base import Recognizer
from src.models.registry import build_recognizer, load_recognizer
from src.quality.folds import train, write_set
from src.quality.networks import Describe, torch_recognizer
from src.quality.samples import FloatArray, Samples, prepared

PLACE = Path("experiments/clusters")
SMALL = {"CRNN_CHANNELS": [16, 16, 32, 32, 48, 48, 64, 64], "CRNN_HIDDEN_SIZE": 64}
"""Model parameters of a recognizer small enough to learn something in a minute."""


class ExperimentError(UserError):
    """The experiment's parameters do not fit the data."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the experiment.

    Attributes:
        train: Kind of training: clean, noisy, one or two.
        clusters: Number of clusters.
        pool: Maximum number of crops of the training set that are clustered.
        samples: Number of training samples per epoch.
        epochs: Number of training epochs.
        tested: Maximum number of crops of the validation set that are read.
        passes: Number of passes with dropout.
        seed: Random seed of the experiment.
    """

    train: str
    clusters: int
    pool: int
    samples: int
    epochs: int
    tested: int
    passes: int
    seed: int


def with_text(samples: Samples, count: int, seed: int) -> Samples:
    """Return a random selection of at most ``count`` samples that have a text."""
    part = samples.take(np.flatnonzero(samples.labels["plate"] != ""))
    return part.sampled(count, seed)


def clusters_of(parts: Sequence[FloatArray], count: int, seed: int) -> list[NDArray[np.int_]]:
    """Return the cluster of each row of features, by part.

    k-means is fitted to the first part. Clusters are numbered by descending size in that part, from 0.
    """
    from sklearn.cluster import KMeans

    mean = parts[0].mean(axis=0)
    points = [part - mean for part in parts]
    points = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in points]
    means = KMeans(count, n_init=2, random_state=seed).fit(points[0])
    rank = np.argsort(np.argsort(-np.bincount(means.labels_, minlength=count), kind="stable"))
    return [rank[means.predict(part)] for part in points]


def chosen(samples: Samples, clusters: NDArray[np.int_], settings: Settings) -> Samples:
    """Return the training samples of an experiment: equally many for each kind of training.

    They are drawn from the clusters that the kind of training uses. For ``noisy``, the texts of the
    largest cluster are exchanged.

    Raises:
        ExperimentError: The kind of training is unknown, or its clusters hold too few samples.
    """
    used = {"clean": settings.clusters, "noisy": settings.clusters, "one": 1, "two": 2}
    if settings.train not in used:
        raise ExperimentError(f"train: {settings.train} must be one of {', '.join(used)}")
    rows = np.flatnonzero(clusters < used[settings.train])
    if len(rows) < settings.samples:
        raise ExperimentError(
            f"train: {settings.train}: {len(rows)} samples are available, but {settings.samples} are "
            "needed. Increase pool, or reduce samples or clusters."
        )
    draws = np.random.default_rng(settings.seed)
    rows = np.sort(draws.choice(rows, settings.samples, replace=False))
    part = samples.take(rows)
    if settings.train == "noisy":
        noisy = draws.permutation(np.flatnonzero(clusters[rows] == 0))
        plates = part.labels["plate"].to_numpy(object, copy=True)
        # Rotated by one, so that each sample gets the text of another.
        plates[noisy] = np.roll(plates[noisy], 1)
        part = replace(part, labels=part.labels.assign(plate=plates))
    return part


def measures(
    reader: Recognizer, samples: Samples, clusters: NDArray[np.int_], passes: int
) -> dict[str, Any]:
    """Return the accuracy, overall and by cluster, and how confident the recognizer is."""
    read = torch_recognizer(reader).read
    assert read is not None  # noqa: S101  # a recognizer has ``read``
    images = [samples.image(row) for row in range(len(samples))]
    lines = samples.labels["lines"].tolist()
    readings = decode(read(images, samples.corners, lines, False))
    right = np.array([a.text == b for a, b in zip(readings, samples.labels["plate"], strict=True)])
    confidence = np.array([reading.confidence for reading in readings])
    dropped = [
        [reading.confidence for reading in decode(read(images, samples.corners, lines, True))]
        for _ in range(passes)
    ]
    by_cluster = [float(right[clusters == number].mean()) for number in np.unique(clusters)]
    return {
        "accuracy": float(right.mean()),
        "accuracy_95": wilson(int(right.sum()), len(right)),
        "accuracy_by_cluster": by_cluster,
        "confidence": float(confidence.mean()),
        "confidence_of_wrong": float(confidence[~right].mean()) if not right.all() else None,
        "spread": float(np.std(dropped, axis=0).mean()),
        "ece": calibration_error(confidence, right),
    }


def run(config: Config, settings: Settings, describe: Describe) -> dict[str, Any]:
    """Run the experiment and return the measures of the trained recognizer and the cost of its training.

    Args:
        config: Parameters of the pipeline; the recognizer is smaller than they say.
        settings: Parameters of the experiment.
        describe: Function that computes the features to cluster by.
    """
    folder, seed = config.prepared("ocr"), settings.seed
    pool, tested = (
        with_text(prepared(folder / name), count, seed)
        for name, count in (("train", settings.pool), ("val", settings.tested))
    )
    features = [describe(part).astype(np.float64) for part in (pool, tested)]
    clusters = clusters_of(features, settings.clusters, seed)
    part = chosen(pool, clusters[0], settings)
    small = config.OCRModelParams.model_copy(update=SMALL)
    torch.manual_seed(seed)
    reader = build_recognizer("crnn", config.model_copy(update={"OCRModelParams": small}))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = write_set(part, Path(temporary) / "train")
        train(reader, place, np.arange(len(part)), config, settings.epochs, seed)
    return {
        **measures(reader, tested, clusters[1], settings.passes),
        "samples": len(part),
        "pool_by_cluster": np.bincount(clusters[0]).tolist(),
        "seconds": round(time.perf_counter() - start),
    }


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    # The images are small: the threads of two libraries would wait for each other.
    cv2.setNumThreads(1)
    try:
        config = load_config()
        text = (PLACE / "params.yaml").read_text(encoding="utf-8")
        settings = Settings(**yaml.safe_load(text))
        trained = load_recognizer(config.out("models", "ocr") / "model.safetensors")
        describe = torch_recognizer(trained).describe
        assert describe is not None  # noqa: S101  # a recognizer has features
        result = run(config, settings, describe)
    except UserError as error:
        sys.exit(f"error: {error}")
    (PLACE / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
