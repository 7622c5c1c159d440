"""Precision and recall of the checks of src/quality on planted errors.

    python bench/quality.py [--samples 20000] [--rate 0.02] [--folds K] [--epochs 4] [--json]
                            [--prepared data/prepared] [--models out]

Errors are planted in clean sets at a known rate: wrong texts (a wrong digit or canton, two swapped
digits, a missing or additional digit, the text of another plate), boxes shifted by 15 % of their width,
copies of images, copies saved as JPEG 70 and shifted by 2 pixels, blurred images, and labels that break
the rules. Whole kinds of samples are also removed: cantons, a format, clusters.

Texts and boxes are judged by the networks of ``--models`` on the validation sets, which they were not
trained on. ``--folds K`` instead trains K networks on the planted set itself, each of which judges the
part that it was not trained on; the cost of this is printed. The thresholds are those of params.py; none
is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.config import Config, load_config
from src.core.charset import CANTONS, CHARSET, DIGITS
from src.core.errors import UserError
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from src.evaluation.metrics import wilson
from src.models.registry import load_localizer, load_recognizer
from src.quality.base import Evidence
from src.quality.folds import Folds, by_folds, write_set
from src.quality.measures import moved
from src.quality.networks import Networks, torch_localizer, torch_recognizer
from src.quality.samples import ImageArray, Samples, prepared
from src.quality.suite import checks_of

SHIFT = 0.15
"""Shift of the planted boxes, as a fraction of their width."""
MOVES = ((2, 0), (0, 2), (-2, 0), (0, -2), (2, 2), (-2, -2))
"""Shifts of near duplicates in pixels, along x and y."""
CLUSTERS, TRIED, LEAST_CLUSTER = 16, 8, 0.02
"""Number of clusters, maximum number of clusters that are removed, one at a time, and the minimum
fraction of the images that such a cluster holds."""
BLUR = 0.03
"""Sigma of the blur, as a fraction of the longer side of the image."""
TARGETS = {
    "wrong_text": (0.95, 0.9),
    "wrong_box": (0.9, 0.8),
    "exact_duplicates": (1.0, 1.0),
    "near_duplicates": (0.95, 0.95),
}
"""Target recall and precision of the checks."""


@dataclass(frozen=True)
class Planted:
    """A set with planted errors.

    Attributes:
        samples: All samples of the set.
        rows: Rows that have an error.
    """

    samples: Samples
    rows: NDArray[np.intp]


Plant = Callable[[Samples, float, int], Planted]
Change = Callable[[ImageArray, int], ImageArray]


def chosen(rows: NDArray[np.intp], rate: float, draws: np.random.Generator) -> NDArray[np.intp]:
    """Return a random fraction of the rows, at least one, sorted."""
    return np.sort(draws.choice(rows, max(round(rate * len(rows)), 1), replace=False))


def wrong_text(text: str, kind: int, other: str, draws: np.random.Generator) -> str:
    """Return a different text that obeys the grammar, made by one of six kinds of error."""
    canton, digits = text[:2], text[2:]
    place = int(draws.integers(len(digits)))
    made = [
        lambda: canton + digits[:place] + str(draws.choice(list(DIGITS))) + digits[place + 1 :],
        lambda: str(draws.choice(CANTONS)) + digits,
        lambda: canton + digits[:place] + digits[place : place + 2][::-1] + digits[place + 2 :],
        lambda: canton + digits[:place] + digits[place + 1 :],
        lambda: canton + digits[:place] + str(draws.choice(list(DIGITS))) + digits[place:],
        lambda: other,
    ][kind]()
    if made != text and CHARSET.is_valid(made):
        return made
    return wrong_text(text, int(draws.integers(6)), other, draws)


def plant_texts(samples: Samples, rate: float, seed: int) -> Planted:
    """Plant wrong texts in samples that have a text, equally many of each kind of error."""
    draws = np.random.default_rng(seed)
    plates = samples.labels["plate"].tolist()
    with_text = np.flatnonzero(samples.labels["plate"] != "")
    rows = chosen(with_text, rate, draws)
    for number, row in enumerate(rows.tolist()):
        other = plates[int(draws.choice(with_text))]
        plates[row] = wrong_text(plates[row], number % 6, other, draws)
    return Planted(replace(samples, labels=samples.labels.assign(plate=plates)), rows)


def plant_boxes(samples: Samples, rate: float, seed: int) -> Planted:
    """Shift boxes, together with their corners, along x (three of four) or y."""
    draws = np.random.default_rng(seed)
    labels = samples.labels.copy()
    rows = chosen(np.flatnonzero(labels["present"]), rate, draws)
    for row in rows.tolist():
        axis = int(draws.random() < 0.25)
        pixels = SHIFT * labels["w"].iloc[row] * labels["width"].iloc[row] * draws.choice([-1, 1])
        share = pixels / labels[("width", "height")[axis]].iloc[row]
        columns = [BOX_COLUMNS[axis], *CORNER_COLUMNS[axis::2]]
        labels.loc[row, columns] += share
    return Planted(replace(samples, labels=labels), rows)


def with_images(samples: Samples, images: dict[int, ImageArray]) -> Samples:
    """Return the samples with the images of some numbers, and their sizes, replaced."""

    def load(number: int) -> ImageArray:
        return images[number] if number in images else samples.load(number)

    labels = samples.labels.copy()
    for number, image in images.items():
        labels.loc[labels["image"] == number, ["height", "width"]] = image.shape
    return replace(samples, labels=labels, load=load, total=len(labels))


def plant_copies(samples: Samples, rate: float, seed: int, change: Change) -> Planted:
    """Append changed copies of images to the set."""
    count = len(samples)
    rows = chosen(np.arange(count), rate, np.random.default_rng(seed))
    # Numbers that no image has.
    numbers = samples.images.max() + 1 + np.arange(len(rows))
    copies = samples.labels.iloc[rows].assign(image=numbers, sample=numbers)
    images = {
        int(number): change(samples.image(row), i)
        for i, (number, row) in enumerate(zip(numbers, rows.tolist(), strict=True))
    }
    both = replace(samples, labels=pd.concat([samples.labels, copies], ignore_index=True))
    return Planted(with_images(both, images), count + np.arange(len(rows)))


def identity_collate(image: ImageArray, _: int) -> ImageArray:
    return image


def saved_and_moved(image: ImageArray, number: int) -> ImageArray:
    """Return the image moved by two pixels and compressed as a JPEG of quality 70."""
    shifted = moved(image, *MOVES[number % len(MOVES)])
    content = cv2.imencode(".jpg", shifted, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


def plant_blur(samples: Samples, rate: float, seed: int) -> Planted:
    """Blur images beyond recognition."""
    rows = chosen(np.arange(len(samples)), rate, np.random.default_rng(seed))
    blurred = {
        int(samples.images[row]): np.asarray(
            cv2.GaussianBlur(image, (0, 0), BLUR * max(image.shape)), np.uint8
        )
        for row in rows.tolist()
        for image in [samples.image(row)]
    }
    return Planted(with_images(samples, blurred), rows)


def plant_broken(samples: Samples, rate: float, seed: int, check: str) -> Planted:
    """Plant labels that break one of the rules."""
    draws = np.random.default_rng(seed)
    labels = samples.labels.copy()
    wanted = labels["plate"] != "" if check in ("grammar", "format") else labels["present"]
    rows = chosen(np.flatnonzero(wanted), rate, draws)
    for number, row in enumerate(rows.tolist()):
        plate = labels["plate"].iloc[row]
        if check == "grammar":
            labels.loc[row, "plate"] = [f"XX{plate[2:]}", f"{plate[:2]}0", plate[2:]][number % 3]
        elif check == "box":
            column, value = [("cx", -2.0), ("w", 0.0), ("cy", 3.0)][number % 3]
            labels.loc[row, column] = value
        elif check == "corners":
            labels.loc[row, "cx"] += SHIFT * labels["w"].iloc[row]
        else:
            labels.loc[row, "format"] = "foreign"
    return Planted(replace(samples, labels=labels), rows)


def figures(planted: Iterable[Any], flagged: Iterable[Any], warning: str = "") -> dict[str, Any]:
    """Return the precision and recall of what is flagged, with the interval of the recall."""
    wanted, found = set(planted), set(flagged)
    hits = len(wanted & found)
    return {
        "planted": len(wanted),
        "flagged": len(found),
        "recall": hits / len(wanted),
        "recall_95": wilson(hits, len(wanted)),
        "precision": hits / len(found) if found else None,
        **({"not_checked": warning} if warning else {}),
    }


class Bench:
    """Apply the checks to sets with planted errors.

    Args:
        config: Parameters, of which the thresholds are used.
        rate: Fraction of the samples in which an error is planted.
    """

    def __init__(self, config: Config, rate: float) -> None:
        self.config, self.rate, self.seed = config, rate, config.QualityParams.SEED
        self.checks = {check.name: check for check in checks_of(config)}

    def evidence(self, samples: Samples, networks: Networks | None = None) -> Evidence:
        return Evidence(samples, samples, networks or Networks(), self.config)

    def check(
        self, name: str, planted: Planted, networks: Networks | None = None
    ) -> dict[str, Any]:
        """Run a check on all samples and compare what it flags with what was planted."""
        start = time.perf_counter()
        found = self.checks[name](self.evidence(planted.samples, networks))
        seconds = round(time.perf_counter() - start, 2)
        row = figures(planted.rows.tolist(), found.flagged.tolist(), found.warning)
        return {**row, "samples": len(planted.samples), "seconds": seconds}

    def images_and_rules(self, samples: Samples) -> dict[str, Any]:
        """Measure the checks that need no network."""
        rate, seed = self.rate, self.seed
        planted = {
            name: plant_broken(samples, rate, seed, name)
            for name in ("grammar", "box", "corners", "format")
        }
        planted["exact_duplicates"] = plant_copies(samples, rate, seed, identity_collate)
        planted["near_duplicates"] = plant_copies(samples, rate, seed, saved_and_moved)
        planted["blurry"] = plant_blur(samples, rate, seed)
        rows = {name: self.check(name, item) for name, item in planted.items()}
        rows["near_duplicates"]["recall_of_equal_hashes"] = equal_hashes(planted["near_duplicates"])
        rows["blurry"]["of_cleanvision"] = blurred_by_cleanvision(planted["blurry"])
        rows["leaked_exactly"] = self.leak("leaked_exactly", samples, identity_collate)
        rows["leaked_nearly"] = self.leak("leaked_nearly", samples, saved_and_moved)
        return rows

    def leak(self, name: str, samples: Samples, change: Change) -> dict[str, Any]:
        """Plant images of the first half of a set in the second half and measure how many are found."""
        half = len(samples) // 2
        first, second = samples.take(np.arange(half)), samples.take(np.arange(half, len(samples)))
        rows = chosen(np.arange(len(second)), self.rate, np.random.default_rng(self.seed))
        images = {
            int(second.images[row]): change(first.image(row), number)
            for number, row in enumerate(rows.tolist())
        }
        evidence = self.evidence(with_images(second, images))
        evidence.others = [self.evidence(first)]
        return figures(rows.tolist(), self.checks[name](evidence).flagged.tolist())

    def by_folds(self, name: str, samples: Samples, plant: Plant, folds: Folds) -> dict[str, Any]:
        """Measure a check with networks of cross-validation folds, trained on the planted set itself."""
        planted = plant(samples, self.rate, self.seed)
        with tempfile.TemporaryDirectory() as folder:
            path = write_set(planted.samples, Path(folder) / samples.place.parent.name / "planted")
            parts, cost = by_folds(prepared(path), self.config, folds)
            findings = [self.checks[name](part) for part in parts]
            split = folds.split(len(samples))
            rows = [
                np.flatnonzero(split == fold)[finding.flagged]
                for fold, finding in enumerate(findings)
            ]
        warning = "; ".join(finding.warning for finding in findings if finding.warning)
        return {
            **figures(planted.rows.tolist(), np.concatenate(rows).tolist(), warning),
            "samples": len(samples),
            "folds": folds.count,
            "epochs": folds.epochs,
            "training_seconds": round(cost.seconds, 1),
            "trained_samples": cost.samples,
        }

    def missing(self, samples: Samples) -> dict[str, Any]:
        """Remove two cantons and a format and compare them with the coverage gaps of single ranges."""
        draws, labels = np.random.default_rng(self.seed), samples.labels
        cantons = sorted(draws.choice(CANTONS, 2, replace=False).tolist())
        kept = ~(labels["plate"].str[:2].isin(cantons) | (labels["format"] == "rear_high"))
        finding = self.checks["coverage"](self.evidence(samples.take(np.flatnonzero(kept))))
        if finding.scores is None:
            return figures([*cantons, "rear_high"], [], finding.warning)
        gaps = finding.scores.tables["holes"]
        single = gaps[gaps["range"].isin(["canton", "format", "digits", "height", "angle"])]
        return figures([*cantons, "rear_high"], single["cell"])

    def missing_clusters(self, samples: Samples, networks: Networks) -> dict[str, Any]:
        """Remove whole clusters from one half of a set and compare it with the other half.

        The clusters are those of k-means with a random seed that the check does not use.
        """
        from sklearn.cluster import KMeans

        half = len(samples) // 2
        whole, other = (
            self.evidence(samples.take(np.arange(start, start + half)), networks)
            for start in (0, half)
        )
        features = whole.features
        means = KMeans(CLUSTERS, n_init=1, random_state=self.seed + 1)
        clusters = means.fit_predict(features - features.mean(axis=0))
        sizes = np.bincount(clusters, minlength=CLUSTERS)
        tried = np.flatnonzero(sizes >= LEAST_CLUSTER * half)[:TRIED].tolist()
        found = []
        for number in [-1, *tried]:
            rows = np.flatnonzero(clusters != number)
            less = self.evidence(whole.samples.take(rows), networks)
            less.features, less.against = features[rows], other
            if self.checks["clusters"](less).failed:
                found.append(number)
        # Cluster -1 stands for the complete half, from which nothing was removed.
        return figures(tried, found)


def equal_hashes(planted: Planted) -> float:
    """Return the fraction of planted near duplicates whose perceptual hash is in the set.

    This is how CleanVision finds them.
    """
    import imagehash

    samples = planted.samples
    first = int(planted.rows[0])
    hashes = {str(imagehash.phash(Image.fromarray(samples.image(row)))) for row in range(first)}
    return float(
        np.mean(
            [
                str(imagehash.phash(Image.fromarray(samples.image(int(row))))) in hashes
                for row in planted.rows
            ]
        )
    )


def blurred_by_cleanvision(planted: Planted) -> dict[str, float]:
    """Return the recall and precision of CleanVision's own measure of blur, at its own threshold."""
    from cleanvision.issue_managers.image_property import BlurrinessProperty

    item, samples = BlurrinessProperty(), planted.samples
    raw = pd.DataFrame(
        [item.calculate(Image.fromarray(samples.image(row))) for row in range(len(samples))]
    )
    scores = item.get_scores(raw, "blurry", normalizing_factor=0.01, color_threshold=0.18)
    flagged = np.flatnonzero(scores.iloc[:, 0] < 0.29)
    hits = len(np.intersect1d(flagged, planted.rows))
    return {"recall": hits / len(planted.rows), "precision": hits / max(len(flagged), 1)}


def run(config: Config, samples: int, rate: float, folds: Folds | None) -> dict[str, Any]:
    """Measure all checks.

    Args:
        config: Parameters, with the folders of prepared sets and models.
        samples: Maximum number of samples of each set.
        rate: Fraction of the samples in which an error is planted.
        folds: Cross-validation folds that networks are trained on, or None to train none.
    """
    bench = Bench(config, rate)
    split = "train" if folds else "val"
    sets = {}
    for task in ("localize", "ocr"):
        whole = prepared(config.prepared(task) / split)
        sets[task] = replace(
            whole.take(np.arange(min(samples, len(whole)))), total=min(samples, len(whole))
        )
    result: dict[str, Any] = {"rate": rate, "samples": samples, "targets": TARGETS}
    if folds:
        result["ocr"] = {
            "wrong_text": bench.by_folds("wrong_text", sets["ocr"], plant_texts, folds)
        }
        result["localize"] = {
            "wrong_box": bench.by_folds("wrong_box", sets["localize"], plant_boxes, folds)
        }
        return result
    reading = torch_recognizer(load_recognizer(config.out("models", "ocr") / "model.safetensors"))
    finding = torch_localizer(
        load_localizer(config.out("models", "localize") / "model.safetensors")
    )
    texts = plant_texts(sets["ocr"], rate, bench.seed)
    result["ocr"] = {
        "wrong_text": bench.check("wrong_text", texts, reading),
        **bench.images_and_rules(sets["ocr"]),
    }
    boxes = plant_boxes(sets["localize"], rate, bench.seed)
    result["localize"] = {
        "wrong_box": bench.check("wrong_box", boxes, finding),
        **bench.images_and_rules(sets["localize"]),
        "missing kinds": bench.missing(sets["localize"]),
        "missing clusters": bench.missing_clusters(sets["localize"], finding),
    }
    return result


def table(result: dict[str, Any]) -> str:
    """Return the figures as a readable table."""
    lines = [f"errors planted in {result['rate']:.1%} of at most {result['samples']} samples"]
    for task in ("ocr", "localize"):
        for name, row in result.get(task, {}).items():
            lines.append(f"{task:9}{name:18}{_figures(row)}{_target(name)}")
            if "training_seconds" in row:
                lines.append(
                    f"{'':27}{row['folds']} folds of {row['epochs']} epochs: "
                    f"{row['training_seconds']:.0f} s, {row['trained_samples']} samples"
                )
    return "\n".join(lines)


def _figures(row: dict[str, Any]) -> str:
    if "not_checked" in row:
        return f"not checked: {row['not_checked']}"
    precision = row.get("precision")
    shown = f"{precision:.3f}" if precision is not None else "-"
    return f"recall {row['recall']:.3f}, precision {shown}, {row['planted']} planted"


def _target(name: str) -> str:
    if name not in TARGETS:
        return ""
    recall, precision = TARGETS[name]
    return f" (target: {recall}, {precision})"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=20_000, help="maximum per set (default: 20000)"
    )
    parser.add_argument(
        "--rate", type=float, default=0.02, help="fraction of planted errors (default: 0.02)"
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="train K networks on the planted set"
    )
    parser.add_argument(
        "--epochs", type=int, default=4, help="training epochs per fold (default: 4)"
    )
    parser.add_argument("--prepared", type=Path, help="folder of the prepared sets")
    parser.add_argument(
        "--models", type=Path, help="folder that contains models/localize and models/ocr"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    # The images are small: the threads of two libraries would wait for each other.
    cv2.setNumThreads(1)
    try:
        config = load_config()
        places = {
            "prepared_data_path": options.prepared and str(options.prepared),
            "out_path": options.models and str(options.models),
        }
        config = config.model_copy(update={name: value for name, value in places.items() if value})
        folds = None
        if options.folds:
            folds = Folds(options.folds, options.epochs, config.QualityParams.SEED)
        result = run(config, options.samples, options.rate, folds)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
