"""Images that are there twice are found, in a set and across sets, and others are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.quality.fingerprints import alike, nearest, nearest_earlier
from src.quality.measures import moved
from src.quality.samples import ImageArray, Samples
from tests.quality.sets import checked, evidence_of, samples_of, with_images

COUNT = 40


def scene(i: int) -> ImageArray:
    """Blocks of grey like no other's, and some noise."""
    draws = np.random.default_rng(i)
    blocks = draws.integers(30, 220, (12, 12)).astype(np.uint8)
    image = cv2.resize(blocks, (84, 84), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + draws.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def scenes(**more: object) -> Samples:
    return replace(samples_of(COUNT, width=84, height=84, **more), load=scene)


def saved_again(image: ImageArray, dx: int = 2, dy: int = -2) -> ImageArray:
    content = cv2.imencode(".jpg", moved(image, dx, dy), [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


def test_the_first_of_equal_images_is_kept() -> None:
    samples = with_images(scenes(), {7: scene(3), 20: scene(3)})
    finding = checked("exact_duplicates", samples)
    assert sorted(finding.flagged.tolist()) == [7, 20]
    assert finding.failed
    assert finding.scores is not None
    assert finding.scores.why(20) == "the same image as set, sample 3"
    assert not len(checked("exact_duplicates", scenes()).flagged)


def test_plates_of_one_image_are_no_duplicates() -> None:
    samples = scenes(image=np.arange(COUNT) // 2)
    assert not len(checked("exact_duplicates", samples).flagged)
    assert not len(checked("near_duplicates", samples).flagged)


def test_equal_pixels_of_another_shape_are_another_image() -> None:
    flat = scene(3).reshape(42, 168)
    samples = with_images(scenes(), {7: flat})
    assert not len(checked("exact_duplicates", samples).flagged)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, 0), (0, -2), (-2, 2)])
def test_an_image_saved_again_and_moved_is_nearly_the_same(dx: int, dy: int) -> None:
    samples = with_images(scenes(), {30: saved_again(scene(4), dx, dy)})
    finding = checked("near_duplicates", samples)
    assert finding.flagged.tolist() == [30]
    assert finding.scores is not None
    assert "set, sample 4" in finding.scores.why(30)


def test_images_that_show_nothing_are_like_no_other() -> None:
    flat = np.full((84, 84), 114, np.uint8)
    samples = with_images(scenes(), {5: flat, 9: flat + 3})
    assert not len(checked("near_duplicates", samples).flagged)
    assert alike(flat, flat) == 0
    assert alike(scene(1), scene(1)) == pytest.approx(1)
    assert alike(scene(1), scene(2)) < 0.5


def test_images_that_another_set_has_are_told_with_their_place() -> None:
    train = scenes()
    own = {i: scene(1000 + i) for i in range(COUNT)}
    val = with_images(scenes(), {**own, 6: scene(11), 8: saved_again(scene(12))})
    evidence = evidence_of(val)
    assert checked("leaked_exactly", evidence).warning == "there is no other set"
    evidence.others = [evidence_of(train)]
    exactly, nearly = checked("leaked_exactly", evidence), checked("leaked_nearly", evidence)
    assert exactly.flagged.tolist() == [6]
    assert nearly.flagged.tolist() == [8], "an exact copy is no near one"
    assert exactly.failed
    assert exactly.scores is not None
    assert nearly.scores is not None
    assert exactly.scores.why(6) == "the same image as set, sample 11"
    assert nearly.scores.why(8).endswith("to set, sample 12")


def test_copies_take_no_place_of_other_candidates() -> None:
    """Turned by 180 degrees, an image has the same amplitudes and is another image."""
    again = saved_again(scene(4))
    turned = np.ascontiguousarray(again[::-1, ::-1])
    train = with_images(
        scenes(), {**dict.fromkeys(range(10, 20), turned), 30: scene(4), 4: scene(99)}
    )
    own = {i: scene(1000 + i) for i in range(COUNT)}
    evidence = evidence_of(with_images(scenes(), {**own, 6: again}))
    evidence.others = [evidence_of(train)]
    assert checked("leaked_nearly", evidence).flagged.tolist() == [6]


def test_another_set_without_images_does_not_matter() -> None:
    unreadable = evidence_of(scenes(problem="there is no such file"))
    unreadable.samples = unreadable.whole.sampled(COUNT, 0)
    evidence = evidence_of(with_images(scenes(), {6: saved_again(scene(106))}))
    evidence.others = [unreadable]
    assert "no other set has an image" in checked("leaked_nearly", evidence).warning
    own = {i: scene(100 + i) for i in range(COUNT)}
    evidence.others.append(evidence_of(with_images(scenes(), own)))
    assert checked("leaked_nearly", evidence).flagged.tolist() == [6]


def test_each_copy_is_flagged_in_one_way() -> None:
    """Exact copies by one check, and near ones by the other, however many there are."""
    first, again = scene(3), saved_again(scene(3), 0, 0)
    near = {}
    for i in range(5, 25):
        near[i] = again.copy()
        near[i][i, i] ^= 1
    samples = with_images(scenes(), {**dict.fromkeys(range(3), first), **near, 30: near[7]})
    exactly, nearly = checked("exact_duplicates", samples), checked("near_duplicates", samples)
    # Samples 0 to 3 are the same image, as are 7 and 30.
    assert sorted(exactly.flagged.tolist()) == [1, 2, 3, 30]
    assert sorted(nearly.flagged.tolist()) == list(range(5, 25))


def test_a_near_copy_of_an_image_with_many_plates_is_found() -> None:
    """The plates of one image are no candidates of each other."""
    images = np.array([0] * 10 + [1] * 10 + list(range(2, 22)))
    samples = with_images(scenes(image=images), {1: saved_again(scene(0))})
    assert sorted(checked("near_duplicates", samples).flagged.tolist()) == list(range(10, 20))


def test_what_has_no_image_is_like_no_other() -> None:
    train, val = scenes(), scenes()
    for samples in (train, val):
        samples.labels.loc[[3, 5], "problem"] = "there is no such file"
    val = replace(with_images(val, {i: scene(1000 + i) for i in range(COUNT)}), place=Path("val"))
    evidence = evidence_of(val)
    evidence.others = [evidence_of(train)]
    assert not len(checked("exact_duplicates", evidence).flagged)
    assert not len(checked("leaked_exactly", evidence).flagged)


def test_the_nearest_are_those_of_least_distance() -> None:
    points = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    scaled = (points - points.mean(axis=0)) / (points.std(axis=0) + 1e-6)
    distances = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    found = nearest(points, points, 3)
    assert (np.sort(found) == np.sort(np.argsort(distances)[:, :3])).all()
    assert nearest(points[:3], points[:2], 5).shape == (3, 2)
    distances[np.triu_indices(50)] = np.inf
    found = nearest_earlier(points, 3)
    assert (np.sort(found[3:]) == np.sort(np.argsort(distances)[3:, :3])).all()
    assert np.sort(found[:3]).tolist() == [[-1, -1, -1], [-1, -1, 0], [-1, 0, 1]]
    assert nearest_earlier(points[:1], 3).tolist() == [[-1]]
