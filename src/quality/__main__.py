"""Check the quality of a dataset: ``python -m src.quality PLACE [--against OTHER] [--out DIR]``.

PLACE is a prepared set, an annotation file (src/datasets/annotations.py), a set of real images in one
of the formats of src/datasets/detection_sets.py, or a folder of any of these, such as data/feedback. If
there are several sets, they must not share an image. All checks of the pipeline run, with the limits of
params.py; the exit status is 1 if a limit is exceeded. The networks are those of the promoted bundle;
the localizer in out/models, if it exists, provides features.

A network cannot judge samples that it was trained on. ``--folds K`` trains K networks on a prepared set
of the localizer or the recognizer; each judges the part that it was not trained on.

``--show NUMBER`` instead writes the images of samples with their labels; NUMBER is the number of a
sample in a report.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError
from ..core.files import write_image
from ..core.program import program
from ..models.registry import load_localizer
from .base import Evidence, evidence_of
from .folds import Folds, by_folds
from .networks import Networks, torch_localizer
from .report import draw
from .samples import Samples, open_samples
from .suite import run
from .with_bundle import bundle_networks

OUT = Path("out/quality/any")
SHOWN_SIDE = 640
_TRAINED_ON = ("localize/train", "ocr/train")


def main(config: Config, options: argparse.Namespace) -> None:
    """Check the sets or show the samples that the command line names."""
    sets = open_samples(options.place)
    title = f"Data quality of {options.place}"
    if options.show:
        show(sets, options.show, options.out)
    elif options.folds:
        folds = Folds(options.folds, options.epochs, config.QualityParams.SEED)
        parts = []
        for samples in sets:
            some, cost = by_folds(samples, config, folds)
            print(f"{samples.place}: trained on {cost.samples} samples in {cost.seconds:.0f} s")
            parts += some
        run(parts, config, options.out, f"{title}, {options.folds} folds")
    else:
        networks = networks_of(config, options.model)
        checked = [look(samples, networks, config) for samples in sets]
        for number, item in enumerate(checked):
            item.others = checked[:number]
        if options.against:
            others = [look(samples, networks, config) for samples in open_samples(options.against)]
            if len(others) != 1:
                names = ", ".join(str(other.whole.place) for other in others)
                raise StageError(
                    f"--against {options.against}: contains several sets; name one: {names}"
                )
            for item in checked:
                item.against, item.others = others[0], [*item.others, *others]
        run(checked, config, options.out, title)


def networks_of(config: Config, model: Path | None) -> Networks:
    """Return the networks of a bundle, with the trained localizer for features if it is available.

    Raises:
        BundleError: The bundle is missing or damaged.
    """
    networks = bundle_networks(model)
    path = config.out("models", "localize") / "model.safetensors"
    if path.is_file():
        return replace(networks, describe=torch_localizer(load_localizer(path)).describe)
    print(f"{path}: not found; clusters and shift are not checked. To fetch it: `dvc pull {path}`")
    return networks


def look(samples: Samples, networks: Networks, config: Config) -> Evidence:
    """Return the evidence for a set.

    A training set is not marked as unseen: on it, a network would only repeat the labels it has learnt.
    """
    unseen = not samples.place.as_posix().endswith(_TRAINED_ON)
    return evidence_of(samples, networks, config, unseen)


def show(sets: list[Samples], numbers: list[int], out: Path) -> None:
    """Write images of samples with their labels outlined.

    Raises:
        StageError: There are several sets, or a sample does not exist.
    """
    if len(sets) != 1:
        raise StageError(
            f"--show needs a single set; name one: {', '.join(str(s.place) for s in sets)}"
        )
    samples = sets[0]
    out.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rows = np.flatnonzero(samples.labels["sample"] == number)
        if not len(rows):
            raise StageError(f"{samples.place}: there is no sample {number}")
        path = out / f"{samples.name}_{number}.png"
        write_image(path, draw(samples, int(rows[0]), SHOWN_SIDE))
        print(f"{path}: {samples.labels.iloc[rows[0]]['plate'] or 'no text'}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog=program("quality"),
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("place", type=Path, help="set to check, or a folder of sets")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="set to compare with")
    parser.add_argument("--out", type=Path, default=OUT, help=f"output folder (default: {OUT})")
    parser.add_argument("--model", type=Path, help="bundle to use (default: the promoted one)")
    parser.add_argument(
        "--folds",
        type=partial(_at_least, 2),
        metavar="K",
        help="train K networks, each of which judges the part that it was not trained on",
    )
    parser.add_argument(
        "--epochs",
        type=partial(_at_least, 1),
        default=4,
        help="training epochs per fold (default: 4)",
    )
    parser.add_argument("--show", type=int, nargs="+", metavar="NUMBER", help="samples to show")
    return parser.parse_args(arguments)


def _at_least(least: int, text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) >= least:
            return value
    raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")


def command(arguments: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: An error occurred; its message is shown to the user.
    """
    options = parse(arguments)
    # Batches are small, so the thread pools of two libraries would wait for each other.
    cv2.setNumThreads(1)
    run_stage(partial(main, options=options))


if __name__ == "__main__":
    command()
