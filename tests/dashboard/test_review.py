"""The page of the queue: what a person decides is in the store, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from src.dashboard.review import last_decided
from src.flywheel import review as module
from src.flywheel.corrections import Correction
from src.flywheel.review import decide, latest
from src.flywheel.store import Store
from src.flywheel.tables import Review, StoredImage
from tests.dashboard.pages import opened, press, shown, texts
from tests.flywheel.databases import CORNERS, capture, plate

MOVED = tuple((x + 5, y) for x, y in CORNERS)


@pytest.fixture(autouse=True)
def _nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_random", lambda *_: False)


def kept(store: Store, text: str = "BE1", confidence: float = 0.9) -> str:
    entry = capture(plates=(replace(plate(text), confidence=confidence),))
    store.save([entry])
    return entry.id


def decided(store: Store, entry: str, number: int | None = 0) -> Review | None:
    with store.reading() as session:
        image = session.get_one(StoredImage, entry)
        return latest(image.reviews, number)


def field(page: AppTest) -> str:
    return page.text_input(
        key=next(each.key for each in page.text_input if each.key != "reviewer")
    ).value


def write(page: AppTest, text: str) -> AppTest:
    """Correct the text of the plate that is shown."""
    (found,) = [each for each in page.text_input if each.key != "reviewer"]
    found.set_value(text)
    return press(page, "Correct")


def test_nothing_waits(store: Store) -> None:
    page = opened("review")
    assert "No plates are waiting for review." in texts(page)
    assert [each.label for each in page.button] == ["Undo"]
    press(page, "Undo")


def test_accepted_and_rejected_plates_wait_no_more(store: Store) -> None:
    doubtful, sure = kept(store, "BE1", 0.5), kept(store, "ZH2", 0.99)
    page = opened("review")
    assert page.header[0].value == "BE 1"
    assert "the recognizer is uncertain" in texts(page)
    assert "2 to review" in texts(page)
    press(page, "Accept")
    review = decided(store, doubtful)
    assert review is not None
    assert (review.state, review.text, review.reviewer) == ("accepted", None, "reviewer")
    assert page.header[0].value == "ZH 2"
    press(page, "Reject")
    review = decided(store, sure)
    assert review is not None
    assert review.state == "rejected"
    assert "No plates are waiting for review." in texts(page)


def test_a_text_is_corrected_if_it_obeys_the_grammar(store: Store) -> None:
    entry = kept(store)
    page = opened("review")
    assert field(page) == "BE1"
    write(page, "BE012")
    assert "'BE012' is not a valid plate: expected one of AG" in page.error[0].value
    assert field(page) == "BE012", "what was typed is lost"
    assert decided(store, entry) is None
    write(page, "be 12")
    assert not page.error
    review = decided(store, entry)
    assert review is not None
    assert (review.state, review.text, review.corners, review.lines) == (
        "corrected",
        "BE12",
        None,
        None,
    )


def test_what_is_not_changed_is_accepted(store: Store) -> None:
    entry = kept(store)
    press(opened("review"), "Correct")
    review = decided(store, entry)
    assert review is not None
    assert review.state == "accepted"


def test_lines_are_corrected(store: Store) -> None:
    entry = kept(store)
    page = opened("review")
    page.radio[0].set_value(2)
    press(page, "Correct")
    review = decided(store, entry)
    assert review is not None
    assert (review.state, review.text, review.lines) == ("corrected", None, 2)


def test_what_the_user_says_is_taken_with_one_key(store: Store) -> None:
    entry = kept(store)
    store.add_feedback(entry, 0, "wrong", Correction("BE7", MOVED))
    page = opened("review")
    assert "User feedback: BE 7, corners" in texts(page)
    assert field(page) == "BE7"
    press(page, "Use feedback")
    review = decided(store, entry)
    assert review is not None
    assert (review.state, review.text) == ("corrected", "BE7")
    assert [tuple(corner) for corner in review.corners or []] == list(MOVED)


def test_without_a_users_word_there_is_none_to_take(store: Store) -> None:
    kept(store)
    (button,) = [each for each in opened("review").button if each.label == "Use feedback"]
    assert button.disabled


def test_a_missed_plate_needs_text_and_corners(store: Store) -> None:
    entry = kept(store, confidence=0.999)
    decide(store, entry, 0, "accepted", "somebody")
    store.add_feedback(entry, None, "missed", Correction("GE9"))
    page = opened("review")
    assert page.header[0].value == "A missed plate"
    disabled = {each.label for each in page.button if each.disabled}
    assert disabled == {"Accept", "Use feedback"}
    press(page, "Correct")
    assert "needs both a text and corners" in page.error[0].value
    store.add_feedback(entry, None, "missed", Correction("GE9", MOVED))
    press(opened("review"), "Use feedback")
    review = decided(store, entry, None)
    assert review is not None
    assert (review.state, review.text) == ("corrected", "GE9")


def test_a_decision_is_of_the_plate_that_is_shown(store: Store) -> None:
    shown_first = kept(store, "BE1", 0.6)
    page = opened("review")
    urgent = kept(store, "ZH2", 0.6)
    store.add_feedback(urgent, 0, "wrong")
    shown(page.run())
    assert page.header[0].value == "BE 1"
    press(page, "Accept")
    assert decided(store, shown_first) is not None
    assert decided(store, urgent) is None
    assert page.header[0].value == "ZH 2"


def test_the_queue_is_ranked_anew_now_and_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(store, "BE1", 0.6)
    kept(store, "GE3", 0.6)
    page = opened("review")
    urgent = kept(store, "ZH2", 0.6)
    store.add_feedback(urgent, 0, "wrong")
    assert "2 to review" in texts(shown(page.run()))
    monkeypatch.setattr("src.dashboard.review.RANKED_S", -1.0)
    before = page.header[0].value
    assert "3 to review" in texts(shown(page.run()))
    # Else a key would decide of another plate than the one that the reviewer looks at.
    assert page.header[0].value == before
    press(page, "Accept")
    assert page.header[0].value == "ZH 2"


def test_what_is_put_off_comes_after_the_others(store: Store) -> None:
    kept(store, "BE1", 0.5)
    kept(store, "ZH2", 0.99)
    page = opened("review")
    press(page, "Later")
    assert page.header[0].value == "ZH 2"
    press(page, "Later")
    assert page.header[0].value == "BE 1"


def test_a_reload_loses_nothing(store: Store) -> None:
    first = kept(store, "BE1", 0.5)
    kept(store, "ZH2", 0.99)
    press(opened("review"), "Accept")
    page = opened("review")
    assert page.header[0].value == "ZH 2"
    press(page, "Undo")
    assert page.header[0].value == "BE 1"
    assert decided(store, first) is None


def test_undo_takes_back_ones_own_last_decision(store: Store) -> None:
    mine, others = kept(store, "BE1"), kept(store, "ZH2")
    decide(store, mine, 0, "accepted", "me")
    decide(store, others, 0, "accepted", "somebody")
    with store.reading() as session:
        assert last_decided(session, "me") == (mine, 0)
        assert last_decided(session, "nobody") is None
    # Somebody has decided otherwise since: that is not mine to take back.
    decide(store, mine, 0, "rejected", "somebody")
    with store.reading() as session:
        assert last_decided(session, "me") is None


def test_a_decision_has_a_name(store: Store) -> None:
    entry = kept(store)
    page = opened("review")
    page.text_input(key="reviewer").set_value(" ")
    press(page, "Accept")
    assert "enter the name of the reviewer" in page.error[0].value
    page.text_input(key="reviewer").set_value("Anna")
    press(page, "Accept")
    review = decided(store, entry)
    assert review is not None
    assert review.reviewer == "Anna"


def test_an_image_that_was_deleted_meanwhile_is_told(store: Store) -> None:
    entry = kept(store)
    page = opened("review")
    store.delete(entry)
    press(page, "Accept")
    assert "it may have been deleted" in page.error[0].value
    with store.reading() as session:
        assert not session.scalars(select(Review)).all()


def test_a_file_that_is_missing_is_told(store: Store) -> None:
    entry = kept(store)
    with store.reading() as session:
        store.images.remove(session.get_one(StoredImage, entry).file)
    page = opened("review")
    assert "there is no such file" in page.warning[0].value
    press(page, "Reject")
