"""The page about operation: days, errors, shift, and what the server counts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.dashboard.operation import (
    LEAST,
    ServerError,
    daily,
    daily_shift,
    fetch,
    readings,
    served,
    shift,
)
from src.flywheel import review
from src.flywheel.corrections import Correction
from src.flywheel.review import decide
from src.flywheel.store import Store
from src.inference.reader import Plate
from tests.bundles import scene, write_bundle
from tests.dashboard.pages import opened, texts
from tests.flywheel.databases import NOW, capture, plate
from tests.serving import serving

PLOTS = Path("out/evaluations/stack/plots")


def kept(store: Store, *plates: Plate, at: datetime = NOW) -> str:
    entry = capture(plates=plates, created=at)
    store.save([entry])
    return entry.id


def unread(confidence: float) -> Plate:
    return replace(plate(), plate=None, confidence=confidence)


def curve(confidences: np.ndarray) -> pd.DataFrame:
    """As the evaluation writes it: the share of plates that are as sure or surer."""
    down = np.sort(confidences)[::-1]
    return pd.DataFrame({"coverage": np.arange(1, len(down) + 1) / len(down), "confidence": down})


def write_evaluation(confidences: np.ndarray) -> None:
    PLOTS.mkdir(parents=True)
    for name in ("val", "formats"):
        curve(confidences).to_csv(PLOTS / f"risk_coverage_{name}.csv", index=False)
    counted = {"uncertainty": {"count": len(confidences)}}
    (PLOTS.parent / "metrics.json").write_text(json.dumps({**counted, "formats": counted}))


def test_days_count_images_by_what_was_read(store: Store) -> None:
    kept(store, replace(plate(), confidence=0.9), unread(0.1), at=NOW)
    kept(store, replace(plate(), confidence=0.7), at=NOW + timedelta(hours=1))
    kept(store, unread(0.2), at=NOW + timedelta(hours=2))
    kept(store, at=NOW + timedelta(hours=3))
    kept(store, plate(), at=NOW + timedelta(days=2))
    kept(store, plate(), at=NOW - timedelta(days=2))
    with store.reading() as session:
        table = readings(session, NOW - timedelta(hours=1))
    assert table["given"].tolist() == [True, True, False, False, True]
    days = daily(table)
    assert [day.date().isoformat() for day in days.index] == ["2026-05-01", "2026-05-03"]
    first = days.iloc[0]
    assert first[["text", "plate", "nothing"]].tolist() == [2, 1, 1]
    assert first["median confidence"] == pytest.approx(0.7)
    assert first["without a plate"] == 0.25


def test_a_day_is_one_of_utc(store: Store) -> None:
    late = datetime(2026, 5, 1, 23, 30, tzinfo=UTC)
    kept(store, at=late)
    kept(store, at=late + timedelta(hours=1))
    with store.reading() as session:
        days = daily(readings(session, NOW))
    assert len(days) == 2
    assert np.isnan(days["median confidence"]).all()
    assert (days["without a plate"] == 1).all()


def test_equal_confidences_show_no_shift() -> None:
    draws = np.random.default_rng(5)
    evaluated = draws.beta(8, 1, 2000)
    same = shift(draws.beta(8, 1, 300), curve(evaluated), 2000, 0.5)
    assert same.distance < same.by_chance
    other = shift(draws.beta(3, 1, 300), curve(evaluated), 2000, 0.5)
    assert other.distance > 2 * other.by_chance
    for result in (same, other):
        assert result.shares[["in operation", "in the evaluation"]].sum().tolist() == pytest.approx(
            [1, 1]
        )
    low = other.shares.iloc[0]
    assert low["confidence"] == "0.5 to 0.7"
    assert low["in operation"] > low["in the evaluation"] + 0.1


def test_shift_is_of_texts_that_are_given() -> None:
    """What is below the threshold is counted elsewhere, and is no shift."""
    given = np.linspace(0.6, 0.9, 200)
    evaluated = np.concatenate([given, np.linspace(0, 0.4, 300)])
    result = shift(np.concatenate([given, [0.1, 0.2]]), curve(evaluated), 500, 0.5)
    assert result.distance < 0.01
    assert result.by_chance == pytest.approx(1.358 * np.sqrt(2 / 200), rel=0.01)


def test_chance_is_what_chance_makes() -> None:
    draws = np.random.default_rng(1)
    results = [
        shift(draws.uniform(0.5, 1, 100), curve(draws.uniform(0.5, 1, 400)), 400, 0.5)
        for _ in range(300)
    ]
    beyond = np.mean([result.distance > result.by_chance for result in results])
    assert 0.01 < beyond < 0.09


def test_shift_by_the_day() -> None:
    """The third day is other than the evaluation; the second has too few texts to say."""
    draws = np.random.default_rng(5)
    days = [(datetime(2026, 5, 1, 22, tzinfo=UTC), draws.beta(8, 1, 200)),
            (datetime(2026, 5, 2, 8, tzinfo=UTC), draws.beta(8, 1, LEAST - 1)),
            (datetime(2026, 5, 3, 8, tzinfo=UTC), draws.beta(3, 1, 200))]  # fmt: skip
    given = pd.DataFrame(
        [(day, confidence) for day, values in days for confidence in values if confidence >= 0.5],
        columns=["created", "confidence"],
    )
    found = daily_shift(given, curve(draws.beta(8, 1, 2000)), 2000, 0.5)
    assert [day.date().isoformat() for day in found.index] == ["2026-05-01", "2026-05-03"]
    assert (found["distance"] > found["by chance"]).tolist() == [False, True]
    none = daily_shift(given[:0], curve(draws.beta(8, 1, 2000)), 2000, 0.5)
    assert none.empty


def test_an_empty_store(store: Store) -> None:
    page = opened("operation")
    assert [each.value for each in page.metric] == ["0", "–", "0", "–"]
    assert "No image was stored in this period." in texts(page)


def test_the_store_over_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    entries = [
        kept(store, replace(plate(), confidence=0.55), at=now - timedelta(days=i % 5))
        for i in range(25)
    ]
    monkeypatch.setattr(review, "is_random", lambda image, _: image.id in entries[:2])
    kept(store, at=now)
    kept(store, at=now - timedelta(days=300))
    store.add_feedback(entries[0], 0, "wrong", Correction("BE2"))
    store.add_feedback(entries[1], 0, "right")
    decide(store, entries[0], 0, "corrected", "me", Correction("BE2"))
    decide(store, entries[1], 0, "accepted", "me")
    page = opened("operation")
    assert [each.value for each in page.metric] == ["26", "3.8%", "2", "50.0%"]
    assert "1 of 2; 95 %: " in texts(page)
    assert "1 right, 1 wrong" in texts(page)
    assert "There is no evaluation to compare with" in texts(page)
    write_evaluation(np.linspace(0.5, 1, 400))
    page = opened("operation")
    assert "last 25 texts differ from those of the evaluation by **0.90**" in texts(page)
    assert "more than chance explains" in texts(page)
    page.segmented_control[0].set_value("1 year").run()
    assert page.metric[0].value == "27"


def test_a_few_texts_say_nothing_of_a_shift(store: Store) -> None:
    write_evaluation(np.linspace(0.5, 1, 400))
    kept(store, plate(), at=datetime.now(UTC))
    assert "has 1 texts; a comparison needs at least 20" in texts(opened("operation"))


def test_what_the_server_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = cv2.imencode(".png", scene("BE1"))[1].tobytes()
    with serving(write_bundle(tmp_path / "served")) as client:
        for _ in range(3):
            client.post("/predict", files={"file": ("car.png", content)}).raise_for_status()
        client.post("/predict", files={"file": ("car.png", b"no image")})
        monkeypatch.setenv("PLATES_SERVER", str(client.base_url))
        found = served(fetch(str(client.base_url)))
        page = opened("operation")
    counted = found.requests.set_index(["route", "status"])["requests"]
    assert counted["/predict", "200"] == 3
    assert counted["/predict", "415"] == 1
    assert found.counts["images read"] == {"text": 3}
    assert found.counts["refused"] == {"unsupported_format": 1}
    assert found.counts["proportion without a plate"] == {"now": 0}
    assert found.confidence["images"].sum() == 3
    assert page.dataframe[0].value["requests"].sum() >= 4


def test_a_server_that_does_not_answer_is_told() -> None:
    said = texts(opened("operation"))
    assert "http://127.0.0.1:9/metrics: does not respond" in said
    assert "PLATES_SERVER" in said


@pytest.mark.parametrize(
    "text", ["# TYPE other counter\nother_total 1\n", "<html> <body> no </body>"]
)
def test_what_is_no_server_of_this_project_is_told(text: str) -> None:
    with pytest.raises(ServerError, match="not a plate reader server"):
        served(text)
