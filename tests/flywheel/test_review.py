"""The queue puts first what is worth a look, the random share is none's choice, decisions are checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from src.flywheel import review as module
from src.flywheel.corrections import Correction
from src.flywheel.errors import CorrectionError, UnknownEntryError
from src.flywheel.review import decide, error_rate, queue
from src.flywheel.store import Store
from src.inference.reader import Plate
from tests.flywheel.databases import CORNERS, NOW, capture, plate


def sure(text: str, confidence: float) -> Plate:
    return replace(plate(text), confidence=confidence)


def kept(store: Store, *plates: Plate, minute: int = 0) -> str:
    entry = capture(plates=plates, created=NOW + timedelta(minutes=minute))
    store.save([entry])
    return entry.id


def names(store: Store, limit: int = 100) -> list[tuple[str, int | None]]:
    with store.reading() as session:
        return [(item.image.id, item.plate) for item in queue(session, limit)]


@pytest.fixture
def nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_random", lambda *_: False)


def test_what_users_call_wrong_comes_first(store: Store, nothing_random: None) -> None:
    kept(store, sure("BE1", 0.999))
    doubtful = kept(store, sure("BE2", 0.5))
    wrong = kept(store, sure("BE3", 0.999))
    missed = kept(store, sure("BE4", 0.999))
    store.add_feedback(wrong, 0, "wrong", Correction("BE8"))
    store.add_feedback(missed, None, "missed")
    assert names(store)[:3] == [(wrong, 0), (missed, None), (doubtful, 0)]
    with store.reading() as session:
        first, second, third, *_ = queue(session)
        assert (first.reasons[0], first.proposal) == ("wrong", "BE8")
        assert (second.reasons, second.proposal) == (("missed",), None)
        assert "doubt" in third.reasons
        assert third.proposal == "BE2"


def test_contradictions_are_found(store: Store, nothing_random: None) -> None:
    """Of one image that was sent twice, one says right, the other another text."""
    first, second = kept(store, sure("BE1", 0.999)), kept(store, sure("BE1", 0.999))
    store.add_feedback(first, 0, "right")
    with store.reading() as session:
        assert not [item for item in queue(session) if "contradiction" in item.reasons]
    store.add_feedback(second, 0, "wrong", Correction("BE7"))
    with store.reading() as session:
        assert all("contradiction" in item.reasons for item in queue(session))
    # Whose mind has changed contradicts nobody; and that it is wrong needs no other text.
    store.add_feedback(second, 0, "right")
    with store.reading() as session:
        assert not [item for item in queue(session) if "contradiction" in item.reasons]
    store.add_feedback(second, 0, "wrong")
    with store.reading() as session:
        assert all("contradiction" in item.reasons for item in queue(session))


def test_whether_a_plate_was_missed_can_be_disputed(store: Store, nothing_random: None) -> None:
    first, second = kept(store), kept(store, sure("BE1", 0.999))
    store.add_feedback(first, None, "right")
    store.add_feedback(second, None, "missed")
    with store.reading() as session:
        assert {item.plate for item in queue(session) if "contradiction" in item.reasons} == {0}


def test_kinds_that_were_seldom_reviewed_are_new(store: Store, nothing_random: None) -> None:
    common = [kept(store, sure("ZH1", 0.99)) for _ in range(3)]
    for entry in common[:2]:
        decide(store, entry, 0, "accepted", "me")
    rare = kept(store, sure("UR1", 0.99))
    assert names(store) == [(rare, 0), (common[2], 0)]


def test_places_that_are_hardly_plates_do_not_wait(store: Store, nothing_random: None) -> None:
    kept(store, replace(plate("ZH1"), plate=None, score=0.3, confidence=0.001))
    foreign = kept(store, replace(plate("ZH1"), plate=None, score=0.9, confidence=0.001))
    assert names(store) == [(foreign, 0)]


def test_each_fifth_is_from_the_random_share(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [kept(store, sure("ZH1", 0.5)) for _ in range(8)]
    boring = [kept(store, sure("ZH1", 0.999)) for _ in range(4)]
    monkeypatch.setattr(module, "is_random", lambda image, _: image.id in boring)
    order = [entry for entry, _ in names(store)]
    assert len(order) == len(set(order)) == 12
    assert [entry in boring for entry in order[:10]] == [False] * 4 + [True] + [False] * 4 + [True]
    assert names(store, limit=5) == [(entry, 0) for entry in order[:5]]
    assert set(order) == {*entries, *boring}


def test_the_random_share_is_a_share() -> None:
    draws = [module._draw(f"{number:032x}", 0) for number in range(4000)]
    assert np.mean(np.array(draws) < module.RANDOM_SHARE) == pytest.approx(0.2, abs=0.02)
    assert np.quantile(draws, [0.25, 0.75]) == pytest.approx([0.25, 0.75], abs=0.03)


def test_the_error_rate_is_of_the_random_share_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [kept(store, sure("ZH1", 0.9), minute=minute) for minute in range(6)]
    other = kept(store, sure("ZH1", 0.9))
    monkeypatch.setattr(module, "is_random", lambda image, _: image.id in chosen)
    with store.reading() as session:
        assert (error_rate(session).count, error_rate(session).high) == (0, 1.0)
    decide(store, chosen[0], 0, "accepted", "me")
    decide(store, chosen[1], 0, "corrected", "me", Correction("ZH7"))
    decide(store, chosen[2], 0, "corrected", "me", Correction(corners=CORNERS))
    decide(store, chosen[3], 0, "rejected", "me")
    decide(store, other, 0, "corrected", "me", Correction("ZH7"))
    # Reviewed before its turn, as users call it wrong: it would spoil the sample.
    decide(store, chosen[5], 0, "corrected", "me", Correction("ZH7"))
    with store.reading() as session:
        rate = error_rate(session)
    assert (rate.wrong, rate.count) == (2, 4)
    assert rate.low < 1 / 2 < rate.high
    decide(store, chosen[4], 0, "accepted", "me")
    with store.reading() as session:
        rate = error_rate(session)
    assert (rate.wrong, rate.count) == (3, 6), "its turn has come"


def test_what_was_decided_waits_no_more(store: Store, nothing_random: None) -> None:
    entry = kept(store, sure("ZH1", 0.9), sure("ZH2", 0.9))
    decide(store, entry, 0, "accepted", "me")
    assert names(store) == [(entry, 1)]
    decide(store, entry, 0, "pending", "me")
    assert len(names(store)) == 2


@pytest.mark.parametrize(
    ("plate_number", "state", "correction", "says"),
    [
        (0, "perhaps", Correction(), "the state must be one of"),
        (0, "corrected", Correction(), "requires a correction"),
        (0, "accepted", Correction("ZH1"), "requires a correction"),
        (0, "corrected", Correction("QQ1"), "not a valid plate"),
        (None, "accepted", Correction(), "cannot be accepted"),
        (None, "corrected", Correction("ZH1"), "needs both a text and corners"),
    ],
)
def test_a_decision_that_contradicts_itself(
    store: Store, plate_number: int | None, state: str, correction: Correction, says: str
) -> None:
    entry = kept(store, sure("ZH1", 0.9))
    with pytest.raises(CorrectionError, match=says):
        decide(store, entry, plate_number, state, "me", correction)
    assert len(names(store)) == 1


def test_a_decision_on_nothing(store: Store) -> None:
    entry = kept(store, sure("ZH1", 0.9))
    with pytest.raises(UnknownEntryError, match="no plate 3"):
        decide(store, entry, 3, "accepted", "me")
    with pytest.raises(UnknownEntryError, match="no image"):
        decide(store, "0" * 32, 0, "accepted", "me")
