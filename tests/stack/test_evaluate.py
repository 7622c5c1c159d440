"""evaluate_stack on a stack that knows the answer, or fails where it is told to; annotation files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.config import Config
from src.core.geometry import CORNER_COLUMNS
from src.datasets.annotations import PreparedAnnotations
from src.datasets.shards import DatasetError, NewSet, Shard, ShardedSet, write_sets
from src.evaluation import figures as plots
from src.evaluation.end_to_end import Case, case_of, score
from src.evaluation.paired import parse_outcomes
from src.inference.bundle import BundleError
from src.inference.reader import PlateReader
from src.inference.runtimes import installed_runtimes
from src.stack import evaluate
from tests.bundles import write_bundle
from tests.stack.oracle import OracleStack
from tests.standins import (
    config_below,
    files_below,
    image_of,
    make_samples,
    metrics_of,
    plate_text,
    prepared_set,
    true_corners,
)

COUNT = 30


def clutter(indices: range) -> Shard:
    """Images without a plate, but for every third, which has one without a text."""
    shard = make_samples((256, 256), indices)
    labels = shard.labels.assign(plate="", present=[i % 3 == 0 for i in indices])
    labels.loc[~labels["present"], [*CORNER_COLUMNS, "cx", "cy", "w", "h"]] = np.nan
    return Shard(shard.images, labels)


def partly_hidden(indices: range) -> Shard:
    """Images whose plates are said to be hidden, all but every fourth."""
    shard = make_samples((256, 256), indices)
    labels = shard.labels.assign(
        text=shard.labels["plate"],
        covered=[0.0 if i % 4 == 0 else 1.0 for i in indices],
        obstacle="bar",
        cap=[10.0 + i for i in indices],
    )
    return Shard(shard.images, labels)


def coloured(indices: range) -> Shard:
    """Images whose plates are blue, but for every third in infrared."""
    shard = make_samples((256, 256), indices)
    infrared = np.array(indices) % 3 == 0
    labels = shard.labels.assign(
        colour=np.where(infrared, "", "blue"), light=np.where(infrared, "infrared", "daylight")
    )
    return Shard(shard.images, labels)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_below(tmp_path)
    folder = config.prepared("stack")
    for name, count in (("val", COUNT), ("formats", 12), ("shifted", 10), ("holdout", 11)):
        prepared_set(folder / name, (256, 256) if name == "val" else (300, 400), count)
    write_sets([NewSet(folder / "clutter", range(9), clutter, {})])
    write_sets([NewSet(folder / evaluate.COLOURS, range(9), coloured, {})])
    parts = [*evaluate.OCCLUDED, *evaluate.OCCLUDED.values(), evaluate.TIGHT]
    write_sets([NewSet(folder / name, range(8), partly_hidden, {}) for name in parts])
    return config


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the commands use a stand-in; gives the folders that were asked for."""

    def use_stack(stack: OracleStack) -> list[Path | None]:
        asked: list[Path | None] = []

        def load(path: Path | None = None) -> OracleStack:
            asked.append(path)
            return stack

        monkeypatch.setattr(PlateReader, "load", load)
        monkeypatch.setattr(evaluate, "TIMED", 3)
        monkeypatch.setattr(evaluate, "_other_runtimes", lambda *_: {})
        return asked

    return use_stack


def test_a_perfect_stack(config: Config, use: Any) -> None:
    asked = use(OracleStack())
    evaluate.main(config)
    assert asked == [config.out("models", "stack")]
    metrics = metrics_of(config, "stack")
    assert metrics["val_acc"] == 1
    assert metrics["val_acc_95"]["low"] == pytest.approx(0.88649, abs=1e-5)
    assert metrics["lost_by_localizer"] == metrics["lost_by_recognizer"] == 0
    assert metrics["mean_iou"] == pytest.approx(1, abs=1e-4)
    assert metrics["map"] == pytest.approx(1)
    assert metrics["corner_error_px"]["p95"] < 0.01
    assert metrics["count"] == metrics["count_with_text"] == metrics["images"] == COUNT
    assert metrics["backgrounds"] == "procedural"
    assert metrics["notes"] == []
    assert 0 < metrics["latency"]["median_ms"] <= metrics["latency"]["p95_ms"]
    assert metrics["latency"]["images_per_second"] > 0
    assert metrics["latency"]["runtime"] == "oracle"
    assert set(metrics["by_angle"]) == {"0-10", "20-30"}
    for name, count in (("formats", 12), ("shifted", 10), ("holdout", 11)):
        assert (metrics[name]["accuracy"], metrics[name]["count"]) == (1, count)
        assert metrics[name]["at_threshold"]["coverage"]["share"] == 1
        # A confidence of 0.9 where all are right.
        assert metrics[name]["uncertainty"]["ece"] == pytest.approx(0.1)
        assert metrics[name]["uncertainty"]["brier"] == pytest.approx(0.01)
    for name in evaluate.OCCLUDED:
        # It reads every plate, hidden or not: right is never wrong.
        assert metrics[name]["illegible"]["wrong"] == pytest.approx(
            {"share": 0, "low": 0, "high": 0.39, "count": 6}, abs=0.01
        )
        assert metrics[name]["legible"]["kept"]["count"] == 2
    assert metrics["tight"]["accuracy"] == 1
    assert metrics["tight"]["high_rows"]["count"] == 6
    text = (config.out("evaluations", "stack") / "plates_read.json").read_text()
    for name, each in parse_outcomes(text).items():
        accuracy = metrics["val_acc"] if name == "val" else metrics[name]["accuracy"]
        assert each.right.mean() == pytest.approx(accuracy, abs=1e-5)
        assert each.data == ShardedSet(config.prepared("stack") / name).meta["sha256"]
    assert files_below(config.out("evaluations", "stack")) == {
        "metrics.json",
        "plates_read.json",
        *(
            f"plots/{plot}_{name}.csv"
            for plot in ("accuracy_by_height", "risk_coverage", "reliability")
            for name in ("val", "formats", "shifted", "holdout")
        ),
        "plots/accuracy_by_angle.csv",
        "plots/confused.csv",
        *(f"plots/images/stack_pred_{i}.png" for i in range(10)),
        "plots/images/worst_failures.png",
        "plots/images/failures_formats.png",
        "plots/images/failures_shifted.png",
        "plots/images/failures_clutter.png",
        "plots/images/failures_occluded.png",
        "plots/risk_coverage_occluded.csv",
        "plots/risk_coverage_occluded_holdout.csv",
    }


def test_every_other_runtime_is_measured(config: Config, tmp_path: Path) -> None:
    """With a bundle that finds a white rim; there is none in these images."""
    folder = write_bundle(tmp_path / "bundle", int8=True)
    truths = {name: evaluate._annotated(config, name) for name in evaluate.OTHER_RUNTIMES}
    others = evaluate._other_runtimes(folder, "onnxruntime", truths)
    assert list(others) == installed_runtimes(has_int8=True)[1:]
    assert all(accuracies == dict.fromkeys(truths, 0.0) for accuracies in others.values())


def test_clutter_is_no_place_for_texts(config: Config, use: Any) -> None:
    # Of its nine images, 0, 3 and 6 have a plate, and it is a foreign one.
    use(OracleStack(missed={1, 2, 4, 5, 8}, confidences={0: 0.4, 3: 0.4}))
    evaluate.main(config)
    clutter = metrics_of(config, "stack")["clutter"]
    assert clutter["images"] == 9
    assert clutter["with_text"]["share"] == pytest.approx(2 / 9, abs=1e-5)
    assert clutter["without_plate"]["with_text"]["share"] == pytest.approx(1 / 6, abs=1e-5)
    assert clutter["without_plate"]["with_box"]["share"] == pytest.approx(1 / 6, abs=1e-5)
    assert clutter["other_plates"]["recall_50"] == 1


def test_each_failure_is_somebodys(config: Config, use: Any) -> None:
    # 3 fails on the true corners as well, so it is the reader's though it was not found either.
    wrong, shifted = {1, 2, 3}, {3, 4, 5, 6, 7}
    use(OracleStack(wrong=wrong, shifted=shifted, confidences={1: 0.3}))
    evaluate.main(config)
    metrics = metrics_of(config, "stack")
    assert metrics["val_acc"] == pytest.approx(1 - 7 / COUNT, abs=1e-5)
    assert metrics["lost_by_recognizer"] == pytest.approx(3 / COUNT, abs=1e-5)
    assert metrics["lost_by_localizer"] == pytest.approx(4 / COUNT, abs=1e-5)
    assert metrics["acc_on_true_corners"] == pytest.approx(1 - 3 / COUNT, abs=1e-5)
    assert metrics["recall_50"] == pytest.approx(1 - 5 / COUNT, abs=1e-5)
    # Texts: of all images but 1, whose confidence is too low; wrong are 2 and the five beside.
    assert metrics["at_threshold"]["wrong"]["count"] == COUNT - 1
    assert metrics["at_threshold"]["wrong"]["share"] == pytest.approx(6 / (COUNT - 1), abs=1e-5)
    assert metrics["at_threshold"]["coverage"]["share"] == pytest.approx(1 - 6 / COUNT, abs=1e-5)
    for name in ("by_height", "by_angle"):
        lost = sum(row["count"] * (1 - row["accuracy"]) for row in metrics[name].values())
        assert lost == pytest.approx(7, abs=1e-3)
    # Of 1 to 7, four are turned.
    assert metrics["by_angle"]["20-30"]["accuracy"] == pytest.approx(1 - 4 / 15, abs=1e-5)
    tables = config.out("evaluations", "stack") / "plots"
    assert pd.read_csv(tables / "accuracy_by_angle.csv")["count"].sum() == COUNT
    assert pd.read_csv(tables / "accuracy_by_height_shifted.csv")["count"].sum() == 10
    # 25 were found, two of them read wrong: 1, whose confidence is the lowest, and 2.
    risks = pd.read_csv(tables / "risk_coverage_val.csv")
    assert risks["risk"].iloc[-1] == pytest.approx(2 / 25, abs=1e-5)
    assert risks["risk"].iloc[-2] == pytest.approx(1 / 24, abs=1e-5)
    bins = pd.read_csv(tables / "reliability_val.csv")
    assert bins["count"].sum() == 25
    confused = pd.read_csv(tables / "confused.csv", dtype={"actual": str, "predicted": str})
    assert set(confused["set"]) == {"val", "formats", "shifted", "holdout"}
    assert confused[confused["set"] == "val"]["count"].sum() == 2


def test_failures_are_drawn_with_what_is_wrong(config: Config, use: Any) -> None:
    truth = PreparedAnnotations(ShardedSet(config.prepared("stack") / "clutter"))
    scores = score(OracleStack(missed={2}), truth)
    foreign = evaluate.draw(truth[0], scores, Case(image=0, row=0, found=0))
    nothing = evaluate.draw(truth[1], scores, Case(image=1, row=None, found=0))
    for card, outlines in ((foreign, {plots.TRUE, plots.FOUND}), (nothing, {plots.FOUND})):
        above = np.asarray(card)[8:488]
        colours = {tuple(colour) for colour in above.reshape(-1, 3).tolist()}
        assert colours & {plots.TRUE, plots.FOUND} == outlines
        assert card.getpixel((0, 0)) == plots.WRONG
    # Another set's plate, right and not found.
    truth = PreparedAnnotations(ShardedSet(config.prepared("stack") / "val"))
    scores = score(OracleStack(missed={2}), truth)
    assert evaluate.draw(truth[1], scores, Case(1, 1, 0)).getpixel((0, 0)) == plots.RIGHT
    assert evaluate.draw(truth[2], scores, Case(2, 2, None)).getpixel((0, 0)) == plots.WRONG


def test_a_stack_that_finds_nothing_is_evaluated_all_the_same(config: Config, use: Any) -> None:
    use(OracleStack(missed=set(range(COUNT))))
    evaluate.main(config)
    metrics = metrics_of(config, "stack")
    assert (metrics["val_acc"], metrics["map"], metrics["shifted"]["uncertainty"]["ece"]) == (
        0,
        0,
        None,
    )
    assert metrics["clutter"]["with_text"]["share"] == 0


def test_a_missing_bundle_says_how_to_get_it(config: Config) -> None:
    with pytest.raises(BundleError, match=r"models/stack.*dvc repro export_stack"):
        evaluate.main(config)
    assert not config.out("evaluations", "stack").exists()


def test_a_missing_set_says_how_to_get_it(tmp_path: Path, use: Any) -> None:
    use(OracleStack())
    with pytest.raises(DatasetError, match=r"stack/val.*dvc repro -f prepare_stack"):
        evaluate.main(config_below(tmp_path))


# Annotation files.

SIZES = [(240, 320), (100, 180), (300, 200), (256, 256)]


def write_images(folder: Path) -> list[dict[str, Any]]:
    """Image files of several sizes, kinds and colours, and rows of truth with every column."""
    rows = []
    for i, (height, width) in enumerate(SIZES):
        image = Image.fromarray(image_of(i, (height, width)))
        name = f"{i}.png"
        if i == 1:
            image = image.convert("RGB")
        if i == 2:
            # As a camera held upright stores it: turned, with a tag that says so.
            name, exif = "2.webp", Image.Exif()
            exif[0x0112] = 6
            image.transpose(Image.Transpose.ROTATE_90).save(folder / name, lossless=True, exif=exif)
        else:
            image.save(folder / name)
        corners = true_corners(i)
        low, high = corners.min(axis=0), corners.max(axis=0)
        middle, size = (low + high) / 2, high - low
        rows.append(
            {
                "file": name,
                "plate": plate_text(i),
                **dict(zip(("cx", "cy", "w", "h"), [*middle, *size], strict=True)),
                **dict(
                    zip(
                        ("x1", "y1", "x2", "y2"),
                        [*low * (width, height), *high * (width, height)],
                        strict=True,
                    )
                ),
                "corners": corners,
                "corners_px": corners * (width, height),
            }
        )
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> Path:
    """Rows with some of their columns; the corners' columns are made from ``corners``."""
    table = pd.DataFrame(rows)
    for name in ("corners", "corners_px"):
        if name in columns:
            table = table.drop(columns=[n for n in CORNER_COLUMNS if n in table])
            values = np.stack([row[name].ravel() for row in rows])
            table[CORNER_COLUMNS] = values
            columns = [n for n in columns if n != name] + CORNER_COLUMNS
    table[columns].to_csv(path, index=False)
    return path


def measured(path: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    evaluate.measure_labels(path, None, True, config)
    metrics = json.loads(capsys.readouterr().out)
    metrics.pop("latency")
    return metrics


NORMALISED, PIXELS = ["cx", "cy", "w", "h"], ["x1", "y1", "x2", "y2"]


def test_all_forms_of_a_truth_file_agree(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack(wrong={1}))
    rows = write_images(tmp_path)
    before = files_below(tmp_path)
    forms = {
        "normalised": ["file", "plate", *NORMALISED],
        "pixels": ["file", "plate", *PIXELS],
        "corners": ["file", "plate", "corners_px"],
        "box_and_corners": ["file", "plate", *NORMALISED, "corners"],
    }
    results = {
        name: measured(write_csv(tmp_path / f"{name}.csv", rows, columns), config, capsys)
        for name, columns in forms.items()
    }
    assert results["normalised"] == results["pixels"]
    assert results["corners"] == results["box_and_corners"]
    for metrics in results.values():
        assert metrics["val_acc"] == 0.75
        assert metrics["mean_iou"] == pytest.approx(1, abs=1e-4)
    # A reader by corners is not blamed for what it cannot read in an upright box.
    assert results["normalised"]["lost_by_recognizer"] is None
    assert "by_angle" not in results["normalised"]
    assert len(results["normalised"]["notes"]) == 2
    assert results["corners"]["lost_by_recognizer"] == 0.25
    assert results["corners"]["notes"] == []
    assert files_below(tmp_path) == before | {f"{name}.csv" for name in forms}


def test_a_reader_by_box_can_be_judged_by_boxes(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack(shifted={0}, wrong={1}, rectification="box"))
    path = write_csv(tmp_path / "t.csv", write_images(tmp_path), ["file", "plate", *PIXELS])
    metrics = measured(path, config, capsys)
    assert metrics["lost_by_recognizer"] == metrics["lost_by_localizer"] == 0.25
    assert metrics["val_acc"] == 0.5


def test_without_texts_the_boxes_are_measured(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack())
    path = write_csv(tmp_path / "t.csv", write_images(tmp_path), ["file", *PIXELS])
    metrics = measured(path, config, capsys)
    assert metrics["val_acc"] is None
    assert "lost_by_recognizer" not in metrics
    assert metrics["count_with_text"] == 0
    assert metrics["mean_iou"] == pytest.approx(1, abs=1e-4)
    assert any("texts are not annotated" in note for note in metrics["notes"])


def test_a_plate_without_text_counts_for_its_box_and_as_a_false_text(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack(wrong={0}))
    rows = write_images(tmp_path)
    rows[2]["plate"] = ""
    path = write_csv(tmp_path / "t.csv", rows, ["file", "plate", "corners_px"])
    metrics = measured(path, config, capsys)
    assert (metrics["count"], metrics["count_with_text"]) == (4, 3)
    assert metrics["recall_50"] == 1
    assert metrics["val_acc"] == pytest.approx(2 / 3, abs=1e-5)
    assert metrics["lost_by_recognizer"] == pytest.approx(1 / 3, abs=1e-5)
    assert metrics["at_threshold"]["wrong"]["share"] == 0.5
    assert metrics["at_threshold"]["coverage"]["count"] == 3


def test_an_image_without_a_plate_is_an_empty_box(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack(missed={1}, confidences={2: 0.3}))
    rows = write_images(tmp_path)
    for row in rows[1:]:
        row.update(dict.fromkeys(["plate", *PIXELS], ""))
    path = write_csv(tmp_path / "t.csv", rows, ["file", "plate", *PIXELS])
    metrics = measured(path, config, capsys)
    assert (metrics["count"], metrics["images"], metrics["val_acc"]) == (1, 4, 1)
    # Nothing in the first of them, a box in the second, a text in the third.
    assert metrics["without_plate"]["with_box"]["share"] == pytest.approx(2 / 3, abs=1e-5)
    assert metrics["without_plate"]["with_text"]["share"] == pytest.approx(1 / 3, abs=1e-5)
    assert metrics["at_threshold"]["wrong"]["share"] == 0.5


def test_the_bundle_is_the_pipelines_or_the_promoted_one(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = use(OracleStack())
    path = write_csv(tmp_path / "t.csv", write_images(tmp_path), ["file", "plate", *PIXELS])
    measured(path, config, capsys)
    own = config.out("models", "stack")
    own.mkdir(parents=True)
    (own / "manifest.json").write_text("{}")
    measured(path, config, capsys)
    evaluate.measure_labels(path, tmp_path / "mine", True, config)
    assert asked == [None, own, tmp_path / "mine"]


def test_a_second_plate_that_is_not_found_is_lost_by_the_localizer(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack())
    rows = write_images(tmp_path)[:1]
    # Stands first, so that the answer is not simply given to the first row.
    other = {**rows[0], "corners_px": rows[0]["corners_px"] - [0, 60]}
    path = write_csv(tmp_path / "t.csv", [other, rows[0]], ["file", "plate", "corners_px"])
    metrics = measured(path, config, capsys)
    assert (metrics["count"], metrics["images"]) == (2, 1)
    assert metrics["val_acc"] == 0.5
    assert metrics["recall_50"] == 0.5
    # At the other place nothing was drawn, and another text is read there.
    assert (metrics["lost_by_recognizer"], metrics["lost_by_localizer"]) == (0.5, 0)


def test_the_table_is_for_people(
    tmp_path: Path, config: Config, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(OracleStack())
    path = write_csv(tmp_path / "t.csv", write_images(tmp_path), ["file", "plate", *PIXELS])
    evaluate.measure_labels(path, None, False, config)
    shown = capsys.readouterr()
    wanted = ("val_acc ", "lost_by_recognizer ", "at_threshold.coverage.share ")
    lines = dict(
        line.split(maxsplit=1) for line in shown.out.splitlines() if line.startswith(wanted)
    )
    assert lines["val_acc"] == "1.0"
    assert lines["lost_by_recognizer"] == "not measured"
    assert lines["at_threshold.coverage.share"] == "1.0"
    assert "note: corners are not annotated" in shown.out
    assert "images/s" in shown.err


GOOD = "file,plate,x1,y1,x2,y2\n0.png,ZH1,10,10,90,40\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,plate,x1,y1,x2\n0.png,ZH1,1,1,9\n",
            r"t\.csv: a column is missing \(y2\).*cx,cy,w,h",
        ),
        ("plate,x1,y1,x2,y2\nZH1,1,1,9,9\n", r"a column is missing \(file\)"),
        ("file,x1,y1,x2,y2\n", "has no rows"),
        ("", "cannot be read as CSV"),
        (GOOD + "0.png,0W17,1,1,9,9\n", r"line 3: `plate`: '0W17'.*AG, AI.*ZH123456"),
        (GOOD + "0.png,ZH012,1,1,9,9\n", r"line 3: `plate`.*without a leading zero"),
        (GOOD + "0.png,ZH1,1,one,9,9\n", r"line 3: `y1` must be a number, not 'one'"),
        (GOOD + "0.png,ZH1,1,,9,9\n", r"line 3: `y1` must be a number, not ''"),
        (GOOD + "0.png,ZH1,9,1,1,9\n", r"line 3: `x1` must be less than `x2`"),
        (GOOD + "0.png,ZH1,900,1,990,9\n", r"line 3: the box lies outside 0\.png.*320x240"),
        (GOOD + "none.png,ZH1,1,1,9,9\n", r"line 3: .*none\.png: there is no such file"),
        (GOOD + "t.csv,ZH1,1,1,9,9\n", r"line 3: .*t\.csv: is not a supported image"),
        (GOOD + "cut.jpg,ZH1,1,1,9,9\n", r"line 3: .*cut\.jpg: is truncated"),
        (GOOD + "0.png,,,,,\n", r"line 3: 0\.png has several rows.*empty box"),
        ("file,plate,x1,y1,x2,y2\n0.png,ZH1,,,,\n", r"line 2: the box is empty.*`plate` is not"),
        (GOOD + ",ZH1,1,1,9,9\n", r"line 3: `file` is empty"),
        (
            "file,cx,cy,w,h\n0.png,50,40,20,10\n",
            r"line 2: `cx` must be normalised to \[0, 1\].*x1,y1,x2,y2",
        ),
        ("file,cx,cy,w,h\n0.png,0.5,0.5,0,0.1\n", r"line 2: `w` and `h` must be greater than 0"),
        (
            "file,x0,y0,x1,y1,x2,y2,x3,y3\n0.png,9,9,90,9,90,9,9,9\n",
            r"line 2: the corners .* must enclose an area",
        ),
        (
            "file,cx,cy,w,h\n0.png,,,,\n" + 2 * "0.png,0.5,0.5,0.1,0.1\n",
            r"line 3: 0\.png has several",
        ),
    ],
)
def test_errors_name_the_row_and_what_is_allowed(
    text: str, message: str, tmp_path: Path, config: Config, use: Any
) -> None:
    use(OracleStack())
    write_images(tmp_path)
    Image.fromarray(image_of(0, (200, 200))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        evaluate.measure_labels(path, None, True, config)


def test_a_missing_truth_file_is_named(tmp_path: Path, config: Config) -> None:
    with pytest.raises(DatasetError, match=r"absent\.csv: cannot be read"):
        evaluate.measure_labels(tmp_path / "absent.csv", None, True, config)


def test_the_command_line() -> None:
    options = evaluate.parse(["--labels", "t.csv", "--model", "models", "--json"])
    assert (options.labels, options.model, options.json) == (Path("t.csv"), Path("models"), True)
    assert evaluate.parse([]).labels is None
    for wrong in (["--json"], ["--model", "models"]):
        with pytest.raises(SystemExit):
            evaluate.parse(wrong)


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (0, ["true: no text", "read: ", "text where there is none"]),
        (1, ["true: " + plate_text(1), "read: ", "lost by recognizer"]),
        (2, ["true: " + plate_text(2), "not found", "lost by localizer"]),
    ],
)
def test_a_card_says_whose_fault_it_is(
    config: Config, monkeypatch: pytest.MonkeyPatch, row: int, texts: list[str]
) -> None:
    """Of a plate without a text beside others that have one: pandas then has no None, but a number."""
    truth = PreparedAnnotations(ShardedSet(config.prepared("stack") / "formats"))
    scores = score(OracleStack(wrong={1}, missed={2}), truth, "formats")
    scores.table.loc[0, ["plate", "right"]] = [np.nan, False]
    drawn: list[str] = []
    draw = plots.draw_result

    def remember(image: Any, outlines: Any, lines: Any, right: bool) -> Image.Image:
        drawn.extend(line.text for line in lines)
        return draw(image, outlines, lines, right)

    monkeypatch.setattr(plots, "draw_result", remember)
    evaluate.draw(truth[row], scores, case_of(scores, row))
    for text in texts:
        assert any(line.startswith(text) for line in drawn), drawn
