"""The queue of plates for a person to look at, and what that person decides (no torch).

First comes what is worth a person's time: what users call wrong or missed, contradictions, doubtful texts,
plates of a kind that was seldom reviewed. A random share is looked at whatever it is: of these alone the
rate of errors follows without bias.
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
from .tables import STATES, Feedback, Picture, Prediction, Review

RANDOM_SHARE = 0.2
"""Of all plates, chosen by their ids; and of the queue."""
_WEIGHTS = {"wrong": 4.0, "missed": 4.0, "contradiction": 3.0, "doubt": 2.0, "novelty": 1.0}
_LEAST_SCORE = 0.5
"""A place without a text that the localizer thinks less likely a plate is not worth a look."""


@dataclass(frozen=True)
class Item:
    """A plate that waits for a decision, or one that was missed.

    Attributes:
        picture: with its predictions.
        plate: which of them; None is one that a user misses.
        prediction: that one.
        feedback: what was said of it last, if anything.
        reasons: why it is worth a look, by names: wrong, missed, contradiction, doubt, novelty, random.
        worth: of a look; higher comes first.
    """

    picture: Picture
    plate: int | None
    prediction: Prediction | None
    feedback: Feedback | None
    reasons: tuple[str, ...]
    worth: float

    @property
    def proposal(self) -> str | None:
        """The text that a reviewer is shown first: the user's, else what was read."""
        if self.feedback is not None and self.feedback.text is not None:
            return self.feedback.text
        return None if self.prediction is None else self.prediction.text


@dataclass(frozen=True)
class ErrorRate:
    """How often readings are wrong, of plates that were chosen at random.

    Attributes:
        wrong, count: of those that were reviewed.
        low, high: 95 % interval (Wilson's) of the share.
    """

    wrong: int
    count: int
    low: float
    high: float


def queue(session: Session, limit: int = 100) -> list[Item]:
    """What waits, the most worth first; each fifth is from the random share.

    Args:
        session: of ``Store.reading``; the items belong to it.
        limit: of items.
    """
    pictures = _pictures(session)
    seen = _reviewed_kinds(pictures)
    contradicted = {id(picture) for picture in contradictions(pictures)}
    items = [
        item for picture in pictures for item in _items(picture, seen, id(picture) in contradicted)
    ]
    items.sort(key=lambda item: (-item.worth, _draw(item.picture.id, item.plate)))
    chosen = [item for item in items if "random" in item.reasons]
    # In the order of error_rate: sorted by worth, the first ones would be no sample.
    chosen.sort(key=lambda item: _turn(item.picture, item.plate))
    return list(_mixed(items, chosen, limit))


def decide(
    store: Store,
    picture: str,
    plate: int | None,
    state: str,
    reviewer: str,
    correction: Correction = Correction(),  # noqa: B008  # it cannot be changed
    now: datetime | None = None,
) -> None:
    """Store a decision; the latest of a plate counts.

    Args:
        store: where it is kept.
        picture: its id.
        plate: which of its predictions; None is one that was missed.
        state: "accepted": it is as it was read; "corrected": it is what the correction says; "rejected":
            it is no plate, or of no use; "pending": it waits again.
        reviewer: who decides, in any words.
        correction: what is right: the text, the corners or both; of a missed plate both.
        now: with a zone; by default the time.

    Raises:
        UnknownEntryError: there is no such picture or plate.
        CorrectionError: the correction breaks the grammar, or does not go with the state.
        StoreError: the database fails.
    """
    if state not in STATES:
        raise CorrectionError(f"the state is one of {', '.join(STATES)}, not {state!r}")
    if (state == "corrected") != bool(correction):
        raise CorrectionError('a correction goes with the state "corrected", and with no other')
    if plate is None and state == "accepted":
        raise CorrectionError("a missed plate was not read: correct it, or reject it")
    if plate is None and state == "corrected" and None in (correction.text, correction.corners):
        raise CorrectionError("of a plate that was missed, text and corners are needed")
    with store.writing() as session:
        entry = session.get(Picture, picture)
        if entry is None:
            raise UnknownEntryError(f"there is no picture {picture!r}; it may have been deleted")
        if plate is not None and session.get(Prediction, (picture, plate)) is None:
            raise UnknownEntryError(f"the picture has no plate {plate}; the first is 0")
        checked = correction.checked(entry.width, entry.height)
        session.add(
            Review(
                picture_id=picture,
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
    """Of the random share: a corrected text is an error, and so is one where there is none to read.

    Others than the random share's turns bring a plate to review too, and what users call wrong comes first.
    So the plates count in the order of their pictures, up to the first one that waits.
    """
    chosen = [
        (picture, prediction)
        for picture in _pictures(session)
        for prediction in picture.predictions
        if prediction.is_given and is_random(picture, prediction)
    ]
    chosen.sort(key=lambda pair: _turn(pair[0], pair[1].plate))
    wrong = count = 0
    for picture, prediction in chosen:
        review = latest(picture.reviews, prediction.plate)
        if review is None:
            break
        count += 1
        wrong += review.state == "rejected" or review.text not in (None, prediction.text)
    low, high = wilson(wrong, count)
    return ErrorRate(wrong, count, low, high)


def contradictions(pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures of one content of which people say different things.

    One picture may be sent twice; then its plates are compared by their numbers. Of one entry the latest
    word counts: who said it may have changed their mind.
    """
    said: dict[tuple[str, int | None], set[tuple[bool, str]]] = {}
    for picture in pictures:
        last = {feedback.plate: feedback for feedback in picture.feedback}
        for plate, feedback in last.items():
            said.setdefault((picture.file, plate), set()).add(_statement(picture, feedback))
    disputed = {file for (file, _), statements in said.items() if _differ(statements)}
    return [picture for picture in pictures if picture.file in disputed]


def _statement(picture: Picture, feedback: Feedback) -> tuple[bool, str]:
    """Whether a text is what is there, or what is not."""
    if feedback.plate is None:
        return feedback.verdict == "missed", "a plate"
    if feedback.text is not None:
        return True, feedback.text
    return feedback.verdict == "right", picture.predictions[feedback.plate].text


def _differ(statements: set[tuple[bool, str]]) -> bool:
    there = {text for is_there, text in statements if is_there}
    return len(there) > 1 or any((False, text) in statements for text in there)


def latest(rows: Sequence[Review], plate: int | None) -> Review | None:
    """The review of a plate that counts, None where it waits."""
    found = [row for row in rows if row.plate == plate]
    return found[-1] if found and found[-1].state != "pending" else None


def is_random(picture: Picture, prediction: Prediction) -> bool:
    """Whether a plate is in the random share: it does not depend on anything but ids."""
    return _draw(picture.id, prediction.plate) < RANDOM_SHARE


def reviewed_pictures(session: Session) -> list[Picture]:
    """All pictures that have a review, the oldest first."""
    return [picture for picture in _pictures(session) if picture.reviews]


def _pictures(session: Session) -> list[Picture]:
    load = (Picture.predictions, Picture.feedback, Picture.reviews)
    statement = select(Picture).options(*map(selectinload, load)).order_by(Picture.created)
    return list(session.scalars(statement))


def _items(picture: Picture, seen: Counter[tuple[str, int]], contradicted: bool) -> Iterator[Item]:
    for prediction in picture.predictions:
        if latest(picture.reviews, prediction.plate) is not None:
            continue
        said = [each for each in picture.feedback if each.plate == prediction.plate]
        feedback = said[-1] if said else None
        reasons = {}
        if feedback is not None and feedback.verdict == "wrong":
            reasons["wrong"] = 1.0
        if contradicted:
            reasons["contradiction"] = 1.0
        if prediction.is_given or prediction.score >= _LEAST_SCORE:
            # A half is the most doubtful: nothing is learnt from what is surely no Swiss plate.
            reasons["doubt"] = 1.0 - abs(2 * prediction.confidence - 1)
            reasons["novelty"] = 1.0 / (1 + seen[_kind(prediction)])
        elif not reasons:
            continue
        worth = sum(_WEIGHTS[name] * value for name, value in reasons.items())
        names = [name for name, value in reasons.items() if value > 0.1]
        if prediction.is_given and is_random(picture, prediction):
            names.append("random")
        yield Item(picture, prediction.plate, prediction, feedback, tuple(names), worth)
    missed = [each for each in picture.feedback if each.plate is None]
    if missed and missed[-1].verdict == "missed" and latest(picture.reviews, None) is None:
        yield Item(picture, None, None, missed[-1], ("missed",), _WEIGHTS["missed"])


def _kind(prediction: Prediction) -> tuple[str, int]:
    return prediction.canton, prediction.lines


def _reviewed_kinds(pictures: Sequence[Picture]) -> Counter[tuple[str, int]]:
    return Counter(
        _kind(prediction)
        for picture in pictures
        for prediction in picture.predictions
        if latest(picture.reviews, prediction.plate) is not None
    )


def _turn(picture: Picture, plate: int | None) -> tuple[datetime, float]:
    """What plates of the random share are in the order of: new ones come last."""
    return picture.created, _draw(picture.id, plate)


def _draw(picture: str, plate: int | None) -> float:
    """A number in [0, 1) of a plate's ids."""
    digest = hashlib.sha256(f"{picture}:{plate}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _mixed(items: Sequence[Item], chosen: Sequence[Item], limit: int) -> Iterator[Item]:
    """The best ones, and after each four of them one of the random share."""
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
