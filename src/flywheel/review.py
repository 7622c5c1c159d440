"""The queue of plates for human review, and the reviewers' decisions (without torch).

The queue begins with the plates most worth a reviewer's time: those that users call wrong or missed,
contradictions, uncertain texts, and kinds of plates that were seldom reviewed. A random share is
reviewed regardless, because only a random sample gives an unbiased estimate of the error rate.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from ..core.intervals import wilson
from .corrections import Correction
from .errors import CorrectionError, UnknownEntryError
from .store import Store
from .tables import STATES, Feedback, Prediction, Review, StoredImage

RANDOM_SHARE = 0.2
"""Fraction of all plates that is sampled by id for review, and their fraction of the queue."""
_WEIGHTS = {"wrong": 4.0, "missed": 4.0, "contradiction": 3.0, "doubt": 2.0, "novelty": 1.0}
_LEAST_SCORE = 0.5
"""Minimum localizer score from which a detection without a text is worth a review."""


@dataclass(frozen=True)
class Item:
    """A plate that waits for a decision, or one that was missed.

    Attributes:
        image: Image with its predictions.
        plate: Index of the prediction; None for a plate that a user reports as missed.
        prediction: Prediction with that index; None for a missed plate.
        feedback: Latest feedback on the plate, if there is any.
        reasons: Names of the reasons for a review: wrong, missed, contradiction, doubt, novelty, random.
        worth: Priority of the review; higher values come first.
    """

    image: StoredImage
    plate: int | None
    prediction: Prediction | None
    feedback: Feedback | None
    reasons: tuple[str, ...]
    worth: float

    @property
    def proposal(self) -> str | None:
        """Text that a reviewer is shown first: the user's, otherwise the predicted one."""
        if self.feedback is not None and self.feedback.text is not None:
            return self.feedback.text
        return None if self.prediction is None else self.prediction.text


@dataclass(frozen=True)
class ErrorRate:
    """How often readings are wrong, estimated from plates that were chosen at random.

    Attributes:
        wrong: Number of reviewed plates that were read wrong.
        count: Number of reviewed plates.
        low: Lower bound of the 95 % Wilson interval of the error rate.
        high: Upper bound of the 95 % Wilson interval of the error rate.
    """

    wrong: int
    count: int
    low: float
    high: float


def queue(session: Session, limit: int = 100) -> list[Item]:
    """Return the waiting plates by descending priority, every fifth one from the random share.

    Args:
        session: Session of ``Store.reading``, which the items are bound to.
        limit: Maximum number of items.
    """
    images = _images(session)
    seen = _reviewed_kinds(images)
    contradicted = {id(image) for image in contradictions(images)}
    items = [item for image in images for item in _items(image, seen, id(image) in contradicted)]
    items.sort(key=lambda item: (-item.worth, _draw(item.image.id, item.plate)))
    chosen = [item for item in items if "random" in item.reasons]
    # In the order of error_rate: sorted by priority, the first ones would not be a random sample.
    chosen.sort(key=lambda item: _turn(item.image, item.plate))
    return list(_mixed(items, chosen, limit))


def decide(
    store: Store,
    image: str,
    plate: int | None,
    state: str,
    reviewer: str,
    correction: Correction = Correction(),  # noqa: B008  # it cannot be changed
    now: datetime | None = None,
) -> None:
    """Store a decision on a plate; the latest one counts.

    Args:
        store: Store that holds the image.
        image: Id of the image.
        plate: Index of the prediction; None for a plate that was missed.
        state: "accepted" if the plate was read correctly, "corrected" if it is what the correction says,
            "rejected" if it is not a plate or not usable, "pending" to make it wait again.
        reviewer: Name of the reviewer, as free text.
        correction: Correct text, corners or both; a missed plate needs both.
        now: Time of the decision with a time zone; the current time by default.

    Raises:
        UnknownEntryError: The image or the plate does not exist.
        CorrectionError: The correction violates the plate grammar, or does not fit the state.
        StoreError: The database fails.
    """
    if state not in STATES:
        raise CorrectionError(f"the state must be one of {', '.join(STATES)}, got {state!r}")
    if (state == "corrected") != bool(correction):
        raise CorrectionError(
            'the state "corrected" requires a correction, and other states allow none'
        )
    if plate is None and state == "accepted":
        raise CorrectionError("a missed plate cannot be accepted; correct or reject it")
    if plate is None and state == "corrected" and None in (correction.text, correction.corners):
        raise CorrectionError("a missed plate needs both a text and corners")
    with store.writing() as session:
        entry = session.get(StoredImage, image)
        if entry is None:
            raise UnknownEntryError(f"there is no image {image!r}; it may have been deleted")
        if plate is not None and session.get(Prediction, (image, plate)) is None:
            raise UnknownEntryError(f"the image has no plate {plate}; the first one is 0")
        checked = correction.checked(entry.width, entry.height)
        session.add(
            Review(
                picture_id=image,
                plate=plate,
                state=state,
                text=checked.text,
                corners=checked.corners and [list(corner) for corner in checked.corners],
                lines=checked.lines,
                reviewer=reviewer,
                created=now or datetime.now(UTC),
            )
        )


def error_rate(session: Session) -> ErrorRate:
    """Estimate how often readings are wrong from the random share.

    A corrected text counts as an error, and so does a text where there is none to read. Plates of the
    random share may also be reviewed for other reasons, and those that users call wrong come first. To
    keep the estimate unbiased, plates count in the order of their images, up to the first that waits.
    """
    chosen = [
        (image, prediction)
        for image in _images(session)
        for prediction in image.predictions
        if prediction.is_given and is_random(image, prediction)
    ]
    chosen.sort(key=lambda pair: _turn(pair[0], pair[1].plate))
    wrong = count = 0
    for image, prediction in chosen:
        review = latest(image.reviews, prediction.plate)
        if review is None:
            break
        count += 1
        wrong += review.state == "rejected" or review.text not in (None, prediction.text)
    low, high = wilson(wrong, count)
    return ErrorRate(wrong, count, low, high)


def contradictions(images: Sequence[StoredImage]) -> list[StoredImage]:
    """Return the images with identical content on which users disagree.

    An image may be sent twice; its plates are then compared by their indices. Within one entry only the
    latest feedback on a plate counts, since its author may have changed their mind.
    """
    said: dict[tuple[str, int | None], set[tuple[bool, str]]] = {}
    for image in images:
        last = {feedback.plate: feedback for feedback in image.feedback}
        for plate, feedback in last.items():
            said.setdefault((image.file, plate), set()).add(_statement(image, feedback))
    disputed = {file for (file, _), statements in said.items() if _differ(statements)}
    return [image for image in images if image.file in disputed]


def _statement(image: StoredImage, feedback: Feedback) -> tuple[bool, str]:
    """Return whether a user says that a text is there or not, and that text."""
    if feedback.plate is None:
        return feedback.verdict == "missed", "a plate"
    if feedback.text is not None:
        return True, feedback.text
    return feedback.verdict == "right", image.predictions[feedback.plate].text


def _differ(statements: set[tuple[bool, str]]) -> bool:
    there = {text for is_there, text in statements if is_there}
    return len(there) > 1 or any((False, text) in statements for text in there)


def latest(rows: Sequence[Review], plate: int | None) -> Review | None:
    """Return the latest review of a plate, or None if the plate is waiting."""
    found = [row for row in rows if row.plate == plate]
    return found[-1] if found and found[-1].state != "pending" else None


def is_random(image: StoredImage, prediction: Prediction) -> bool:
    """Return whether a plate is in the random share, which depends on nothing but ids."""
    return _draw(image.id, prediction.plate) < RANDOM_SHARE


def reviewed_images(session: Session) -> list[StoredImage]:
    """Return all images that have a review, the oldest first."""
    return [image for image in _images(session) if image.reviews]


def _images(session: Session) -> list[StoredImage]:
    load = (StoredImage.predictions, StoredImage.feedback, StoredImage.reviews)
    statement = select(StoredImage).options(*map(selectinload, load)).order_by(StoredImage.created)
    return list(session.scalars(statement))


def _items(
    image: StoredImage, seen: Counter[tuple[str, int]], contradicted: bool
) -> Iterator[Item]:
    for prediction in image.predictions:
        if latest(image.reviews, prediction.plate) is not None:
            continue
        said = [each for each in image.feedback if each.plate == prediction.plate]
        feedback = said[-1] if said else None
        reasons = {}
        if feedback is not None and feedback.verdict == "wrong":
            reasons["wrong"] = 1.0
        if contradicted:
            reasons["contradiction"] = 1.0
        if prediction.is_given or prediction.score >= _LEAST_SCORE:
            # Uncertainty is highest at one half: nothing is learnt from what is surely no Swiss plate.
            reasons["doubt"] = 1.0 - abs(2 * prediction.confidence - 1)
            reasons["novelty"] = 1.0 / (1 + seen[_kind(prediction)])
        elif not reasons:
            continue
        worth = sum(_WEIGHTS[name] * value for name, value in reasons.items())
        names = [name for name, value in reasons.items() if value > 0.1]
        if prediction.is_given and is_random(image, prediction):
            names.append("random")
        yield Item(image, prediction.plate, prediction, feedback, tuple(names), worth)
    missed = [each for each in image.feedback if each.plate is None]
    if missed and missed[-1].verdict == "missed" and latest(image.reviews, None) is None:
        yield Item(image, None, None, missed[-1], ("missed",), _WEIGHTS["missed"])


def _kind(prediction: Prediction) -> tuple[str, int]:
    return prediction.canton, prediction.lines


def _reviewed_kinds(images: Sequence[StoredImage]) -> Counter[tuple[str, int]]:
    return Counter(
        _kind(prediction)
        for image in images
        for prediction in image.predictions
        if latest(image.reviews, prediction.plate) is not None
    )


def _turn(image: StoredImage, plate: int | None) -> tuple[datetime, float]:
    """Return the sort key of plates in the random share, by which new ones come last."""
    return image.created, _draw(image.id, plate)


def _draw(image: str, plate: int | None) -> float:
    """Return a number in [0, 1) that is derived from a plate's ids by hashing."""
    digest = hashlib.sha256(f"{image}:{plate}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _mixed(items: Sequence[Item], chosen: Sequence[Item], limit: int) -> Iterator[Item]:
    """Yield the items of highest priority, and after every four of them one of the random share."""
    every = round(1 / RANDOM_SHARE)
    given: set[int] = set()
    best, random = iter(items), iter(chosen)
    while len(given) < min(limit, len(items)):
        source = random if (len(given) + 1) % every == 0 else best
        item = next((each for each in source if id(each) not in given), None)
        if item is None:
            item = next((each for each in best if id(each) not in given), None)
        if item is None:
            return
        given.add(id(item))
        yield item
