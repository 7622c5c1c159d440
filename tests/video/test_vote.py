"""Sums of probabilities decide on a text."""

from __future__ import annotations

import numpy as np
import pytest

from src.video.vote import Sighting, Vote
from tests.video.footage import plate


def vote_of(*plates: object) -> Vote:
    vote = Vote()
    for time, each in enumerate(plates):
        vote.add(Sighting(float(time), each))  # type: ignore[arg-type]  # plates of the helper
    return vote


def test_the_sum_decides_not_the_first_and_not_the_surest() -> None:
    vote = vote_of(
        plate("ZH12346", confidence=0.95),
        *[plate("ZH123456", confidence=0.7, others=[("ZH12346", 0.1)])] * 3,
    )
    assert vote.text == "ZH123456"
    assert vote.ranked == [
        ("ZH123456", pytest.approx(2.1)),
        ("ZH12346", pytest.approx(1.25)),
    ]
    assert vote.best.time == 1.0
    assert vote.share == pytest.approx(2.1 / 4)


def test_alternatives_of_all_readings_can_outvote_each_reading() -> None:
    wrong = ("ZH1", "ZH2", "ZH3")
    vote = vote_of(*[plate(text, confidence=0.4, others=[("ZH9", 0.35)]) for text in wrong])
    assert vote.text == "ZH9"
    # No reading has it in the first place: the best frame is the surest one.
    assert vote.best.plate.text == "ZH1"
    assert (vote.sightings, vote.reads) == (3, 0)


def test_colour_and_format_need_more_than_half() -> None:
    vote = vote_of(
        plate(colour="blue", colour_confidence=0.9, format="front"),
        plate(colour="white", colour_confidence=0.8, format="rear_long"),
        plate(colour="blue", colour_confidence=0.3, format="front"),
        plate(),
    )
    assert (vote.colour, vote.format) == ("blue", "front")
    vote.add(Sighting(9.0, plate(format="rear_long")))
    assert vote.format is None


def test_the_reason_is_the_most_frequent_one() -> None:
    hidden = plate(confidence=0.2, reason="incomplete")
    assert vote_of(hidden, hidden, plate(confidence=0.1)).reason == "incomplete"


def test_memory_is_bounded_in_texts_and_frames() -> None:
    vote = Vote()
    frame = np.zeros((4, 4, 3), np.uint8)
    for number in range(1000):
        reading = plate(f"ZH{number}", confidence=0.3, others=[("ZH777777", 0.2)])
        vote.add(Sighting(float(number), reading, frame))
    assert vote.text == "ZH777777"
    assert len(vote.sums) <= 128
    assert sum(each.frame is not None for each in vote.surest.values()) <= 3
    vote.drop_frames()
    assert all(each.frame is None for each in vote.surest.values())


def test_votes_are_merged() -> None:
    first = vote_of(plate("ZH1", confidence=0.9, colour="blue", colour_confidence=0.9))
    second = vote_of(plate("ZH1", confidence=0.95), plate("ZH7", confidence=0.4))
    first.merge(second)
    assert first.ranked[0] == ("ZH1", pytest.approx(1.85))
    assert first.best.plate.confidence == 0.95
    assert (first.sightings, first.reads, first.colour) == (3, 2, "blue")


def test_without_a_reading_there_is_no_text() -> None:
    assert (Vote().text, Vote().share) == ("", 0.0)
    with pytest.raises(ValueError, match="no best"):
        _ = Vote().best
