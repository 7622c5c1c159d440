"""The stages, the report and the command: what they write, and how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from src.config import Config, load_config
from src.core.errors import StageError
from src.datasets.shards import NewSet, ShardedSet, write_sets
from src.quality import __main__ as command
from src.quality import check_localize, check_ocr, check_stack
from src.quality.base import Evidence, evidence_of
from src.quality.networks import Networks
from src.quality.report import gate_message, page, write_results
from src.quality.samples import prepared
from src.quality.suite import check, checks_of, run
from tests.conftest import PARAMETERS, make_localize, make_ocr
from tests.quality import sets
from tests.standins import OracleReader, config_below, files_below, prepared_set

FILES = {
    "metrics.json", "report.html", "flagged.csv", "plots/flagged.csv", "plots/clusters.csv",
    "plots/reliability.csv",
}  # fmt: skip


def results(config: Config, task: str) -> dict[str, Any]:
    return json.loads((config.out("quality", task) / "metrics.json").read_text())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Parameters for sets of some dozens."""
    config = config_below(tmp_path)
    small = {
        "SAMPLES": 40,
        "STACK_SAMPLES": 10,
        "CLUSTERS": 4,
        "UNCERTAINTY_SAMPLES": 10,
        "PASSES": 2,
    }
    # What the sets of the tests hold is not what params.py declares.
    small |= {"COVERAGE_GAPS": 10**6, "LACKING_CLUSTERS": 100}
    return sets.with_params(config, **small)


def test_every_check_has_a_name_of_its_own_and_a_title(config: Config) -> None:
    checks = checks_of(config)
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.title for check in checks)


def test_localize(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": range(60), "val": range(60, 85)}
    folder = config.prepared("localize")
    write_sets([NewSet(folder / name, part, make_localize, {}) for name, part in splits.items()])
    networks = Networks(find=sets.finder({}), describe=_features)
    monkeypatch.setattr(check_localize, "load_localizer", lambda path: path)
    monkeypatch.setattr(check_localize, "torch_localizer", lambda _: networks)
    check_localize.main(config)
    assert files_below(config.out("quality", "localize")) == FILES
    metrics = results(config, "localize")
    assert metrics["failed"] == 0
    assert metrics["train"]["exact_duplicates"]["samples"] == 60
    assert metrics["val"]["near_duplicates"]["of"] == 25
    assert metrics["train"]["near_duplicates"]["samples"] == 40
    assert metrics["val"]["wrong_box"]["not_checked"] == "25 samples; 200 are needed"
    assert metrics["val"]["shift"]["not_checked"] == "25 samples; 50 are needed"
    assert metrics["train"]["clusters"]["not_checked"] == "40 samples; 50 are needed"


def _features(samples: Any) -> np.ndarray:
    return np.array([samples.image(row)[::20, ::20].ravel() for row in range(len(samples))], float)


def test_ocr_finds_a_leak_and_says_where(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = config.prepared("ocr")
    # Sample 59 of the training set is the first one of validation.
    splits = {"train": range(60), "val": range(59, 85)}
    write_sets([NewSet(folder / name, part, make_ocr, {}) for name, part in splits.items()])
    networks = Networks(read=sets.reader(lambda _: "ZH1"), describe=_features, drops=True)
    monkeypatch.setattr(check_ocr, "load_recognizer", lambda path: path)
    monkeypatch.setattr(check_ocr, "torch_recognizer", lambda _: networks)
    with pytest.raises(StageError) as error:
        check_ocr.main(config)
    message = str(error.value)
    assert "val: leaked_exactly: 1 of 26 samples, 3.85%" in message
    assert f"{folder / 'val'}, sample 0: the same image as {folder / 'train'}, sample 59" in message
    assert str(config.out("quality", "ocr") / "report.html") in message
    # All of it was written before.
    assert files_below(config.out("quality", "ocr")) == FILES
    metrics = results(config, "ocr")
    assert metrics["failed"] == 1
    assert metrics["val"]["leaked_exactly"]["flagged"] == 1
    assert metrics["val"]["leaked_nearly"]["flagged"] == 0
    flagged = pd.read_csv(config.out("quality", "ocr") / "flagged.csv")
    assert "leaked_exactly" in set(flagged["check"])


def test_stack_compares_all_sets_and_those_of_training(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*check_stack.SETS, check_stack.HOLDOUT)
    for number, name in enumerate(names):
        part = range(20 * number, 20 * number + 20)
        write_sets([NewSet(config.prepared("stack") / name, part, make_localize, {})])
    for number, name in enumerate(("train", "val")):
        # The localizer's first ten samples are those of the locked set and of formats.
        part = range(20 * (len(names) - 1), 20 * len(names)) if number else range(25, 35)
        write_sets([NewSet(config.prepared("localize") / name, part, make_localize, {})])
    monkeypatch.setattr(check_stack, "load_localizer", lambda path: path)
    monkeypatch.setattr(check_stack, "torch_localizer", lambda _: Networks(describe=_features))
    networks = Networks(find=sets.finder({}), read=sets.reader(lambda _: "ZH1"))
    monkeypatch.setattr(check_stack, "bundle_networks", lambda path: networks)
    with pytest.raises(StageError, match="formats: leaked_exactly: 10 of 20"):
        check_stack.main(config)
    metrics = results(config, "stack")
    assert set(metrics) == {"failed", "not_checked", *check_stack.SETS}
    assert metrics["val"]["leaked_exactly"]["flagged"] == 0


def evidence(config: Config) -> Evidence:
    samples = sets.samples_of(60)
    samples.labels.loc[7, "plate"] = "<b>XX</b>"
    return evidence_of(samples, Networks(), config)


def test_the_report_is_one_page_with_its_images(config: Config, tmp_path: Path) -> None:
    findings = check([evidence(config)], config)
    html = page("Quality", findings)
    assert html.count("data:image/png;base64,") >= 1
    assert "http" not in html.replace("http-equiv", "")
    assert "&lt;b&gt;XX&lt;/b&gt;" in html
    assert "<b>XX</b>" not in html
    assert "1 check exceeds its limit" in html
    assert all(f"<td>{finding.check.name}</td>" in html for finding in findings)
    links = set(re.findall(r'href="#([^"]+)"', html))
    assert links == set(re.findall(r'<h2 id="([^"]+)"', html))
    assert html.index('<h2 id="val-grammar"') == html.index("<h2 ")
    write_results(tmp_path / "out", "Quality", findings)
    assert files_below(tmp_path / "out") == FILES
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["failed"] == 1
    assert metrics["val"]["grammar"] == {
        "samples": 60, "of": 60, "flagged": 1, "value": pytest.approx(1 / 60, abs=1e-5), "limit": 0.0,
    }  # fmt: skip


def test_a_clean_set_fails_nothing(config: Config, tmp_path: Path) -> None:
    item = evidence_of(sets.samples_of(60), Networks(), config)
    assert gate_message(check([item], config), tmp_path) == ""
    run([item], config, tmp_path / "out", "Quality")
    assert files_below(tmp_path / "out") == FILES


def test_a_large_set_is_sampled_and_the_report_says_so(config: Config) -> None:
    item = evidence_of(sets.samples_of(90), Networks(), config)
    assert len(item.samples) == 40
    dark = next(finding for finding in check([item], config) if finding.check.name == "dark")
    assert dark.checked == 40
    assert "40 of 90" in page("Quality", [dark])


def arguments(*texts: str) -> Any:
    return command.parse(list(texts))


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "networks_of", lambda config, model: Networks())


@pytest.mark.usefixtures("no_networks")
def test_any_folder_with_a_csv(config: Config, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        cv2.imwrite(str(photos / f"{i}.png"), sets.noise(i))
    rows = [
        "0.png,ZH1,4,4,40,20",
        "1.png,ZH01,4,4,40,20",
        "2.png,ZH3,60,4,99,20",
        "9.png,ZH4,1,1,9,9",
    ]
    (photos / "truth.csv").write_text("\n".join(["file,plate,x1,y1,x2,y2", *rows, ""]))
    options = arguments(str(photos), "--out", str(tmp_path / "out"))
    with pytest.raises(StageError) as error:
        command.main(config, options)
    message = str(error.value)
    assert "grammar: 1 of 4" in message
    assert f"{photos / 'truth.csv'}, line 3: 'ZH01' is not a valid plate text" in message
    assert "box: 1 of 4" in message
    assert "unusable: 1 of 4" in message
    assert files_below(tmp_path / "out") == FILES


@pytest.mark.usefixtures("no_networks")
def test_two_sets_are_compared(config: Config, tmp_path: Path) -> None:
    prepared_set(tmp_path / "old", (60, 120), 12)
    prepared_set(tmp_path / "new", (60, 120), 9)
    options = arguments(
        str(tmp_path / "new"), "--against", str(tmp_path / "old"), "--out", str(tmp_path / "out")
    )
    with pytest.raises(StageError, match="new: leaked_exactly: 9 of 9"):
        command.main(config, options)


@pytest.mark.parametrize(
    ("option", "value", "least"), [("--folds", "1", 2), ("--folds", "two", 2), ("--epochs", "0", 1)]
)
def test_folds_and_epochs_must_be_enough(
    option: str, value: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments("set", option, value)
    says = f"argument {option}: must be a whole number of at least {least}, not '{value}'"
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("no_networks")
def test_samples_can_be_seen(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared_set(tmp_path / "val", (60, 120), 9)
    place, out = str(tmp_path / "val"), str(tmp_path / "out")
    command.main(config, arguments(place, "--show", "4", "7", "--out", out))
    assert files_below(tmp_path / "out") == {"val_4.png", "val_7.png"}
    image = cv2.imread(str(tmp_path / "out" / "val_4.png"))
    assert image.shape == (320, 640, 3)
    # The outline is in colour.
    assert (image.max(axis=2) != image.min(axis=2)).any()
    assert data.plates[4] in capsys.readouterr().out
    with pytest.raises(StageError, match="no sample 99"):
        command.main(config, arguments(place, "--show", "99", "--out", out))


def test_a_network_is_not_asked_about_what_it_was_trained_on(tmp_path: Path) -> None:
    config = load_config(PARAMETERS)
    for place, unseen in (("data/prepared/ocr/train", False), ("data/prepared/ocr/val", True)):
        prepared_set(tmp_path / place, (60, 120), 3)
        item = command.look(prepared(tmp_path / place), Networks(), config)
        assert item.unseen == unseen


def test_the_networks_of_the_pipeline_answer(tmp_path: Path) -> None:
    """OracleReader behind the same calls as the trained one: its texts are right, and it has features."""
    from src.models.recognizers import CRNN
    from src.quality.networks import torch_recognizer
    from src.quality.opinions import text_opinions

    prepared_set(tmp_path / "ocr", (60, 120), 8)
    samples = prepared(tmp_path / "ocr")
    read = torch_recognizer(OracleReader(wrong={3})).read
    assert read is not None
    texts = text_opinions(samples, read, None, 1)
    plates = ShardedSet(tmp_path / "ocr").plates
    assert [a == b for a, b in zip(texts.first, plates, strict=True)] == [i != 3 for i in range(8)]
    network = CRNN([1, 32, 128], [8] * 8, 16, 1, 0.5, 37)
    networks = torch_recognizer(network)
    assert networks.drops
    assert networks.describe is not None
    assert networks.describe(samples).shape == (8, 8)
    read = networks.read
    assert read is not None
    images = [samples.image(row) for row in range(8)]
    once = read(images, samples.corners, [1] * 8, False)
    assert (once == read(images, samples.corners, [1] * 8, False)).all()
    assert (once != read(images, samples.corners, [1] * 8, True)).any()
    assert not network.training
