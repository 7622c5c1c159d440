"""Labels that networks contradict, where they are sure; and what they say about them."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest

from src.core.charset import CHARSET
from src.core.geometry import CORNER_COLUMNS
from src.quality import opinions
from src.quality.networks import BATCH_SIZE
from src.quality.samples import ImageArray, Samples
from tests.quality.sets import checked, evidence_of, finder, reader, samples_of, text_of

COUNT = 250
WRONG = {10: "ZH1", 40: text_of(40)[:-1] + "3", 90: "AG99999", 130: text_of(130)[:-1]}


def test_wrong_texts_are_found() -> None:
    plates = [WRONG.get(i, text_of(i)) for i in range(COUNT)]
    finding = checked(
        "wrong_text", evidence_of(samples_of(COUNT, plate=plates), read=reader(text_of))
    )
    assert sorted(finding.flagged.tolist()) == sorted(WRONG)
    assert finding.checked == COUNT
    assert finding.scores is not None
    assert finding.scores.measures["agreement"] == pytest.approx(1 - 4 / COUNT)
    why = finding.scores.why(10)
    assert why.startswith(f"labelled ZH1, read {text_of(10)} with probability 0.9")


def test_the_wrong_character_is_named() -> None:
    plates = [WRONG.get(i, text_of(i)) for i in range(COUNT)]
    finding = checked(
        "wrong_text", evidence_of(samples_of(COUNT, plate=plates), read=reader(text_of))
    )
    assert finding.scores is not None
    # A canton is one character; the fifth digit is the sixth.
    assert finding.scores.why(40).endswith("; suspected character: 6")
    confused = finding.scores.tables["confused"]
    row = confused[(confused["given"] == "3") & (confused["read"] == text_of(40)[-1])]
    assert row["count"].tolist() == [1]


def test_a_text_on_what_has_none_and_none_on_what_has_one() -> None:
    plates = [text_of(i) for i in range(COUNT)]
    plates[20] = ""
    texts = {30: ""}
    read = reader(lambda i: texts.get(i, text_of(i)))
    finding = checked("wrong_text", evidence_of(samples_of(COUNT, plate=plates), read=read))
    assert sorted(finding.flagged.tolist()) == [20, 30]
    assert finding.scores is not None
    assert "labelled no text" in finding.scores.why(20)
    assert "read no text" in finding.scores.why(30)


def test_where_the_network_is_unsure_nothing_is_suspected() -> None:
    unsure = {50, 51, 52}
    read = reader(
        lambda i: text_of(i + 1) if i in unsure else text_of(i),
        lambda i: 0.4 if i in unsure else 0.99,
    )
    finding = checked("wrong_text", evidence_of(samples_of(COUNT), read=read))
    assert not len(finding.flagged)


@pytest.mark.parametrize(
    ("evidence", "warning"),
    [
        (evidence_of(samples_of(COUNT)), "no network reads plates"),
        (evidence_of(samples_of(COUNT), read=reader(text_of), unseen=False), "has trained"),
        (
            evidence_of(samples_of(COUNT), read=reader(lambda i: text_of(i + 1))),
            "agrees with only 0 of 250",
        ),
        (evidence_of(samples_of(30), read=reader(text_of)), "30 samples; 200 are needed"),
    ],
)
def test_a_network_that_cannot_know_is_not_listened_to(evidence: object, warning: str) -> None:
    assert warning in checked("wrong_text", evidence).warning  # type: ignore[arg-type]  # they are evidence


def test_texts_that_break_the_grammar_are_another_check_s() -> None:
    plates = ["XX" if i == 5 else text_of(i) for i in range(COUNT)]
    finding = checked(
        "wrong_text", evidence_of(samples_of(COUNT, plate=plates), read=reader(text_of))
    )
    assert not len(finding.flagged)
    assert finding.checked == COUNT - 1


def test_the_probability_of_a_text_is_that_of_all_its_paths() -> None:
    # Two steps: "ZH1" has one path, (ZH, 1); nothing is read by two blanks.
    chances = np.full((1, 2, CHARSET.num_classes), 1e-9)
    canton, digit = CHARSET.encode("ZH1")
    chances[0, 0, [canton, CHARSET.blank]] = 0.7, 0.3
    chances[0, 1, [digit, CHARSET.blank]] = 0.6, 0.4
    logs = np.log(chances).astype(np.float32)
    assert opinions._log_probability(logs, ["ZH1"]) == pytest.approx([math.log(0.42)], abs=1e-5)
    assert opinions._log_probability(logs, [""]) == pytest.approx([math.log(0.12)], abs=1e-5)
    # What the classes lack to 1 is a hidden character: then there is no text either.
    chances[0, 1, digit] = 0.4
    logs = np.log(chances).astype(np.float32)
    assert opinions._log_probability(logs, ["ZH1"]) == pytest.approx([math.log(0.28)], abs=1e-5)
    hidden = opinions._log_probability(logs, [""], np.array([True]))
    assert hidden == pytest.approx([math.log(0.12 + 0.2)], abs=1e-5)
    assert opinions._log_probability(logs, [""]) == pytest.approx([math.log(0.12)], abs=1e-5)


def test_shifted_boxes_are_found() -> None:
    shifts = {7: 0.15, 60: -0.2, 61: 0.03}
    finding = checked("wrong_box", evidence_of(samples_of(COUNT), find=finder(shifts)))
    assert sorted(finding.flagged.tolist()) == [7, 60]
    assert finding.flagged[0] == 60
    assert finding.scores is not None
    assert finding.scores.why(7).startswith("detected +15% of its width to the right, +0% down")


def test_boxes_that_are_found_elsewhere_at_each_look_are_not_suspected() -> None:
    find = finder({7: 0.15}, unsure=set(range(100, 110)))
    finding = checked("wrong_box", evidence_of(samples_of(COUNT), find=find))
    assert 7 in finding.flagged
    assert len(finding.flagged) <= 2


def test_nothing_is_suspected_where_nothing_is_found() -> None:
    warning = checked(
        "wrong_box", evidence_of(samples_of(COUNT), find=finder({7: 0.5}, score=0.2))
    ).warning
    assert "agrees with only 0 of 250" in warning


def with_empty() -> tuple[Samples, set[int]]:
    """Samples of which every fifth has no plate, by its label; and their numbers."""
    present = np.arange(COUNT) % 5 != 0
    samples = samples_of(COUNT, present=present, plate="")
    samples.labels.loc[~present, CORNER_COLUMNS] = np.nan
    return samples, set(np.flatnonzero(~present).tolist())


def test_plates_that_the_labels_miss() -> None:
    samples, empty = with_empty()
    find = finder({}, empty=empty - {10, 45})
    finding = checked("missed_plate", evidence_of(samples, find=find))
    assert sorted(finding.flagged.tolist()) == [10, 45]
    assert finding.checked == len(empty)
    doubtful = finder({}, score=0.8, empty=empty - {10, 45})
    assert not len(checked("missed_plate", evidence_of(samples, find=doubtful)).flagged)


def test_a_network_that_finds_plates_everywhere_or_nowhere_misses_none() -> None:
    samples = with_empty()[0]
    everywhere = checked("missed_plate", evidence_of(samples, find=finder({})))
    assert "agrees with only 0 of 50" in everywhere.warning
    nowhere = checked("missed_plate", evidence_of(samples, find=finder({}, empty=range(COUNT))))
    assert "agrees with only 0 of 200" in nowhere.warning
    full = evidence_of(samples_of(COUNT), find=finder({}))
    assert checked("missed_plate", full).warning == "all samples have a plate"


def test_a_network_that_reads_nothing_is_not_listened_to_though_most_have_no_text() -> None:
    plates = [text_of(i) if i % 5 == 0 else "" for i in range(COUNT)]
    finding = checked(
        "wrong_text", evidence_of(samples_of(COUNT, plate=plates), read=reader(lambda _: ""))
    )
    assert "agrees with only 0 of 50" in finding.warning


def test_without_corners_it_is_read_where_a_plate_is_found() -> None:
    samples = samples_of(3)
    samples.labels[CORNER_COLUMNS] = np.nan
    samples.labels["lines"] = 0
    find = finder({1: 0.1, 2: 3.0})
    texts = opinions.text_opinions(samples, reader(text_of), find, 1)
    assert texts.asked.all()
    assert texts.first == [text_of(i) for i in range(3)]
    # What is found elsewhere is another plate: then it is read in the box.
    left = texts.corners[:, 0, 0]
    assert left == pytest.approx([0.25, 0.3, 0.25])
    assert texts.lines.tolist() == [1, 1, 1]


@pytest.mark.parametrize("has_corners", [True, False])
def test_images_are_not_all_in_memory_at_once(has_corners: bool) -> None:
    """Of thousands of photographs, a batch is enough; with objections to all of them, too."""
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def load(number: int) -> ImageArray:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        image = samples.load(number).copy()
        weakref.finalize(image, gone)
        return image

    samples = samples_of(COUNT)
    if not has_corners:
        samples.labels[CORNER_COLUMNS] = np.nan
    counted = replace(samples, load=load)
    opinions.box_opinions(counted, finder(dict.fromkeys(range(COUNT), 0.5)))
    # It agrees with three of four.
    read = reader(lambda number: text_of(number if number % 4 else number + 1))
    texts = opinions.text_opinions(counted, read, finder({}), 1)
    assert np.isfinite(texts.other).sum() == -(-COUNT // 4)
    # One batch is made while the one before is still there.
    assert BATCH_SIZE // 2 < most <= 2 * BATCH_SIZE
    assert alive == 0
