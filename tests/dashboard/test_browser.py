"""The dashboard as people start it, in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from sqlalchemy import select

from src.flywheel.corrections import Correction
from src.flywheel.events import EventFilter, EventStore
from src.flywheel.review import latest
from src.flywheel.store import Store
from src.flywheel.tables import Feedback, StoredImage
from tests.browsers import chromium
from tests.bundles import scene
from tests.flywheel.databases import CORNERS, capture, plate
from tests.serving import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
sync_api = pytest.importorskip("playwright.sync_api")
# The other half of the suite runs beside this one.
sync_api.expect.set_options(timeout=60_000)
ROOT = Path(__file__).resolve().parents[2]
PAGES = {"": "Try an image", "review": "Review", "events": "Events", "data": "Data quality", "model": "Model",
         "operation": "Operation"}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with chromium() as found:
        yield found


@contextmanager
def dashboard(folder: Path, bundle: Path) -> Iterator[str]:
    """The address of a dashboard that was started in a folder, with a store there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "src.dashboard", "--port", str(port), "--model", str(bundle),
        "--feedback", f"sqlite:///{folder}/feedback.db", "--server", "http://127.0.0.1:9",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{url}/_stcore/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_up, 60)
        yield url
        # What goes wrong in a page is in the log alone.
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def url(tmp_path: Path, bundle: Path) -> Iterator[str]:
    with dashboard(tmp_path, bundle) as found:
        yield found


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    """The store of the dashboard."""
    store = Store(f"sqlite:///{tmp_path}/feedback.db")
    yield store
    store.close()


@pytest.fixture
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    faults: list[str] = []
    elsewhere: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("request", lambda request: elsewhere.append(request.url))
    yield found
    assert faults == []
    foreign = [
        url for url in elsewhere if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))
    ]
    assert foreign == [], "it works offline, and tells nobody"
    context.close()


def ready(page: sync_api.Page, title: str) -> None:
    sync_api.expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()


def settle(page: sync_api.Page) -> None:
    """Wait until the page is drawn: before that, elements of the last run stand beside those of this one."""
    app = page.get_by_test_id("stApp")
    sync_api.expect(app).to_have_attribute("data-test-script-state", "notRunning")
    sync_api.expect(page.locator("[data-stale=true]")).to_have_count(0)


def verdicts(store: Store) -> list[tuple[str, str | None]]:
    with store.reading() as session:
        return [(row.verdict, row.text) for row in session.scalars(select(Feedback))]


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["phone", "desktop"])
def test_every_page_on_an_empty_store(
    browser: sync_api.Browser, url: str, size: tuple[int, int]
) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    for path, title in PAGES.items():
        page.goto(f"{url}/{path}")
        ready(page, title)
        sync_api.expect(page.get_by_test_id("stException")).to_have_count(0)
        # And nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_an_image_is_tried_and_corrected(
    page: sync_api.Page, url: str, kept: Store, tmp_path: Path
) -> None:
    image = tmp_path / "car.png"
    assert cv2.imwrite(str(image), scene("BE1"))
    page.goto(url)
    ready(page, "Try an image")
    page.set_input_files("input[type=file]", image)
    ready(page, "BE 1")
    page.get_by_label("Correct text, if the reading is wrong").fill("BE 1x")
    page.get_by_label("Correct text, if the reading is wrong").press("Enter")
    sync_api.expect(page.get_by_text("'BE1X' is not a valid plate")).to_be_visible()
    assert verdicts(kept) == []
    page.get_by_label("Correct text, if the reading is wrong").fill("be 17")
    page.get_by_label("Correct text, if the reading is wrong").press("Enter")
    sync_api.expect(page.get_by_text("Stored as wrong. Thank you.")).to_be_visible()
    assert verdicts(kept) == [("wrong", "BE17")]


def test_the_queue_by_the_keyboard(page: sync_api.Page, url: str, kept: Store) -> None:
    entries = [capture(plates=(plate(text),)) for text in ("BE1", "GE2", "TI3", "ZH4")]
    kept.save(entries)
    ids = {entry.plates[0].text: entry.id for entry in entries}
    heading, field = page.locator("h2"), page.get_by_label("Correct text")

    def states() -> dict[str, tuple[str, str | None]]:
        with kept.reading() as session:
            found = {
                text: latest(session.get_one(StoredImage, entry).reviews, 0)
                for text, entry in ids.items()
            }
            return {text: (row.state, row.text) for text, row in found.items() if row}

    def press(key: str, assertion: Callable[[], None]) -> None:
        """Press a key; once more where the page was not ready to hear it."""
        for _ in range(3):
            # A page that is drawn anew may take the cursor back.
            if key == "Enter":
                field.focus()
            page.keyboard.press(key)
            try:
                assertion()
            except AssertionError:
                continue
            return
        assertion()

    def next_one(key: str) -> str:
        """Press a key that has the next plate shown."""
        settle(page)
        before = heading.inner_text()
        press(key, lambda: sync_api.expect(heading).not_to_have_text(before, timeout=10_000))
        settle(page)
        return heading.inner_text()

    def edit(text: str) -> None:
        """Have the cursor in the field by a key and type; again where a slow page took the cursor back."""
        for _ in range(3):
            settle(page)
            page.get_by_role("heading", name="Review").click()
            sync_api.expect(field).not_to_be_focused()
            press("e", lambda: sync_api.expect(field).to_be_focused(timeout=10_000))
            settle(page)
            page.keyboard.type(text)
            if field.input_value() == text:
                return
        sync_api.expect(field).to_have_value(text)

    page.goto(f"{url}/review")
    sync_api.expect(heading).to_be_visible()
    settle(page)
    first = heading.inner_text()
    second = next_one("a")
    third = next_one("x")
    names = [name.replace(" ", "") for name in (first, second, third)]
    assert states() == {names[0]: ("accepted", None), names[1]: ("rejected", None)}
    # It is selected: what is typed takes its place, and no letter of it is a command.
    edit("AX 77")
    page.keyboard.press("Enter")
    sync_api.expect(page.get_by_text("'AX77' is not a valid plate")).to_be_visible()
    sync_api.expect(field).to_have_value("AX 77")
    edit("ag 77")
    fourth = next_one("Enter")
    assert states()[names[2]] == ("corrected", "AG77")
    # Nothing is lost on reload, and the last decision can be taken back.
    page.reload()
    sync_api.expect(heading).to_have_text(fourth)
    assert next_one("z") == third
    assert names[2] not in states()
    assert next_one("l") == fourth
    assert len(states()) == 2


def test_corners_are_edited_and_shown(page: sync_api.Page, url: str, kept: Store) -> None:
    entry = capture(plates=(plate("BE1"),))
    kept.save([entry])
    page.goto(f"{url}/review")
    sync_api.expect(page.locator("h2")).to_be_visible()
    settle(page)
    # The image and the crop of its plate: until both are drawn, the first of them may be the crop.
    images = page.locator("img")
    sync_api.expect(images).to_have_count(2)
    before = images.first.get_attribute("src")
    assert before
    page.get_by_text("Corners", exact=True).click()
    table = page.get_by_test_id("stDataFrame")
    sync_api.expect(table).to_be_visible()
    settle(page)
    # The grid is a canvas: its cells are reached by their place. The second column, x of the top left.
    table.dblclick(position={"x": 200, "y": 52})
    cell = page.locator("#portal input")
    sync_api.expect(cell).to_be_visible()
    cell.fill("50")
    cell.press("Enter")
    # The outline follows.
    sync_api.expect(images.first).not_to_have_attribute("src", before)
    settle(page)
    page.get_by_role("button", name="Correct").click()
    sync_api.expect(page.get_by_text("No plates are waiting for review.")).to_be_visible()
    with kept.reading() as session:
        review = latest(session.get_one(StoredImage, entry.id).reviews, 0)
        assert review is not None
        assert (review.state, review.text) == ("corrected", None)
        assert review.corners == [[50.0, 100.0], *(list(corner) for corner in CORNERS[1:])]


def test_an_event_is_chosen_and_deleted(page: sync_api.Page, url: str, tmp_path: Path) -> None:
    events = EventStore(f"sqlite:///{tmp_path}/feedback.db")
    for number, text in enumerate(("BE1", "ZH2"), 1):
        seen = datetime.now(UTC) - timedelta(hours=2 - number)
        event = {
            "id": f"{number:032x}", "revision": 1, "source": "gate", "plate": text, "colour": None,
            "first_at": seen.isoformat(), "best": {"time": 1.0},
        }  # fmt: skip
        events.save(event, timedelta(days=1))
    page.goto(f"{url}/events")
    heading = page.locator("h2")
    sync_api.expect(heading).to_have_text("ZH 2")
    settle(page)
    # The grid is a canvas: the box of its second row, below the header.
    page.get_by_test_id("stDataFrame").click(position={"x": 16, "y": 87})
    sync_api.expect(heading).to_have_text("BE 1")
    settle(page)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    sync_api.expect(page.get_by_text("The event and its image are deleted.")).to_be_visible()
    sync_api.expect(heading).to_have_text("ZH 2")
    assert [row.plate for row in events.search(EventFilter())] == ["ZH2"]
    events.close()


def test_a_box_is_drawn_around_a_missed_plate(page: sync_api.Page, url: str, kept: Store) -> None:
    entry = capture(plates=())
    kept.save([entry])
    kept.add_feedback(entry.id, None, "missed", Correction("GE9"))
    page.goto(f"{url}/review")
    chart = page.get_by_test_id("stVegaLiteChart").locator("svg.marks")
    sync_api.expect(chart).to_be_visible()
    settle(page)
    place = chart.bounding_box()
    assert place is not None

    def at(share: float) -> tuple[float, float]:
        return place["x"] + share * place["width"], place["y"] + share * place["height"]

    page.mouse.move(*at(0.25))
    page.mouse.down()
    page.mouse.move(*at(0.4), steps=4)
    page.mouse.move(*at(0.5), steps=4)
    page.mouse.up()
    # The outline that will be stored is shown.
    sync_api.expect(page.locator("img").first).to_be_visible()
    page.get_by_role("button", name="Correct").click()
    sync_api.expect(page.get_by_text("No plates are waiting for review.")).to_be_visible()
    with kept.reading() as session:
        review = latest(session.get_one(StoredImage, entry.id).reviews, None)
        assert review is not None
        assert (review.state, review.text) == ("corrected", "GE9")
        wanted = [[64, 64], [128, 64], [128, 128], [64, 128]]
        assert np.abs(np.array(review.corners) - wanted).max() < 10
