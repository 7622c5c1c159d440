"""The page about the model: the promoted bundle beside what the workspace has evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.dashboard.model import accuracies, figures, slices_of_card, slices_of_metrics
from src.inference.bundle import read_manifest
from src.promotion.model_card import CARD, card
from tests.bundles import write_bundle, write_manifest
from tests.dashboard.pages import failure, opened, texts

EVALUATION = Path("out/evaluations/stack")


def metrics(accuracy: float) -> dict[str, Any]:
    """As evaluate_stack writes them, for two sets."""
    interval = {"low": accuracy - 0.01, "high": accuracy + 0.01}
    slices = {
        "by_height": {"0-10": {"count": 0, "accuracy": None}, "10-15": {"count": 50, "accuracy": accuracy}},
        "by_digits": {"6": {"count": 100, "accuracy": 0.5}},
    }  # fmt: skip
    return {
        "val_acc": accuracy, "val_acc_95": interval, "count_with_text": 100, **slices,
        "uncertainty": {"ece": 0.01, "count": 100},
        "formats": {"accuracy": 0.7, "accuracy_95": interval, "count_with_text": 40, **slices},
        "clutter": {"with_text": {"share": 0.001, "count": 1000}},
    }  # fmt: skip


def write(name: str, content: dict[str, Any]) -> None:
    path = EVALUATION / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with figures, a card, and a comparison with the one before."""
    compared = {"name": "val", "count": 100, "promoted": 80, "candidate": 90, "gained": 12, "lost": 2,
                "p_better": 0.01, "p_worse": 0.99}  # fmt: skip
    plain = {name: value for name, value in metrics(0.9).items() if not name.startswith("by_")}
    folder = write_bundle(
        tmp_path / "models", metrics={"evaluate_stack": plain, "promotion": {"sets": [compared]}}
    )
    (folder / CARD).write_text(card(read_manifest(folder), metrics(0.9), "bundle 1"))
    monkeypatch.setenv("PLATES_MODEL", str(folder))
    return folder


def test_the_promoted_bundle_alone(promoted: Path) -> None:
    page = opened("model")
    assert "dvc repro evaluate_stack" in texts(page)
    sets, others, before = (each.value for each in page.dataframe)
    assert sets["promoted"].tolist()[:2] == [0.9, 0.7]
    assert sets["candidate"].isna().all()
    assert others["promoted"].tolist() == [0.001, 0.01]
    assert before[["set", "the one before", "the promoted one"]].to_numpy().tolist() == [
        ["val", 80, 90]
    ]


def test_the_candidate_beside_it(promoted: Path) -> None:
    write("metrics.json", metrics(0.95))
    page = opened("model")
    sets = page.dataframe[0].value.set_index("set")
    assert sets.loc["val", "difference"] == pytest.approx(0.05)
    assert sets.loc["val", "candidate, 95 %"] == "0.9400 to 0.9600"
    assert sets.loc["val", "plates"] == 100
    assert "dvc pull out/models/stack" in texts(page), "its networks are not here"
    # All slices can be chosen.
    name, by = page.selectbox
    assert (name.options, by.options) == (["val", "formats"], ["height", "digits"])
    by.set_value("digits").run()
    assert not page.exception


def test_the_candidate_may_be_the_promoted_one(promoted: Path) -> None:
    write("metrics.json", metrics(0.9))
    write_bundle(Path("out/models/stack"))
    assert "These are the promoted models." in texts(opened("model"))
    (Path("out/models/stack") / "recognizer.onnx").write_bytes(b"another")
    write_manifest(Path("out/models/stack"))
    assert "These are the promoted models." not in texts(opened("model"))


def test_reliability_is_drawn_of_the_sets_that_have_it(promoted: Path) -> None:
    assert "Reliability" not in texts(opened("model"))
    write("metrics.json", metrics(0.9))
    (EVALUATION / "plots").mkdir()
    table = pd.DataFrame(
        {"confidence": [0.5], "accuracy": [0.4], "low": [0.1], "high": [0.8], "count": [9]}
    )
    table.to_csv(EVALUATION / "plots" / "reliability_val.csv", index=False)
    page = opened("model")
    assert "Reliability" in texts(page)
    assert len(page.get("vega_lite_chart")) == 2


def test_a_bundle_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLATES_MODEL", str(tmp_path / "nowhere"))
    assert "there is no bundle" in failure("model")


def test_damaged_metrics_are_told(promoted: Path) -> None:
    write("metrics.json", {})
    (EVALUATION / "metrics.json").write_text("{")
    assert "Recreate it with `dvc repro`" in failure("model")


def test_the_cards_slices_are_those_that_were_measured(promoted: Path) -> None:
    """The card is for people; what it says must be found again in it."""
    found = slices_of_card((promoted / CARD).read_text())
    wanted = slices_of_metrics(metrics(0.9))
    assert len(wanted) == 4, "a slice without plates is none"
    pd.testing.assert_frame_equal(found, wanted)


def test_what_one_of_both_lacks_is_no_error() -> None:
    table = accuracies({}, metrics(0.9)).set_index("set")
    assert table.loc["val", "candidate"] == 0.9
    assert table["promoted"].isna().all()
    assert table["difference"].isna().all()
    assert figures({}, {}).empty
