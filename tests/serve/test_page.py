"""The page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.browsers import SIZES, chromium, opened
from tests.bundles import BLACK, always, draw_plate, scene, write_bundle
from tests.serving import serving, wait_until, write_keys
from tests.video.footage import empty, frame_with, passing, write_video

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("page") / "bundle"
    with serving(write_bundle(folder, colours=always("blue").to_dict())) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(params=SIZES)
def page(
    request: pytest.FixtureRequest, browser: sync_api.Browser, server: httpx.Client
) -> Iterator[sync_api.Page]:
    with opened(browser, str(server.base_url), request.param) as page:
        yield page


def write(folder: Path, name: str, pixels: np.ndarray) -> Path:
    path = folder / name
    assert cv2.imwrite(str(path), pixels)
    return path


def test_the_colour_of_a_plate_is_shown_where_it_is_told(
    page: sync_api.Page, tmp_path: Path
) -> None:
    grey = scene("BE1")
    for name, pixels, wanted in (
        ("grey.png", grey, "Bern"),
        ("colour.png", np.repeat(grey[..., None], 3, axis=2), "Bern, blue"),
    ):
        page.reload()
        page.set_input_files("#pick", write(tmp_path, name, pixels))
        sync_api.expect(page.locator(".result .canton")).to_have_text(wanted)


def test_an_image_with_two_plates(page: sync_api.Page, tmp_path: Path) -> None:
    pixels = draw_plate(scene("BE1", (20, 30, 120, 60)), "GE65432", (100, 150, 220, 182), BLACK)
    page.set_input_files("#pick", write(tmp_path, "two.png", pixels))
    result = page.locator(".result")
    sync_api.expect(result.locator(".plate")).to_have_count(2)
    sync_api.expect(result.locator(".view img")).to_have_count(1)
    sync_api.expect(page.locator("#status")).to_have_text("1 image read")
    read = {each.get_attribute("aria-label") for each in result.locator(".text").all()}
    assert read == {"BE 1", "GE 6 5 4 3 2"}
    cantons = "".join(result.locator(".canton").all_text_contents())
    assert "Bern" in cantons
    assert "Geneva" in cantons
    sync_api.expect(result.locator(".words").first).to_contain_text("sure")
    # The rectified crops show the plates' rims and their grey.
    for number in range(2):
        pixel = "c => (x, y) => c.getContext('2d').getImageData(c.width * x, c.height * y, 1, 1).data[0]"
        cut = result.locator(".cut canvas").nth(number)
        middle, rim = cut.evaluate(f"c => [({pixel})(c)(0.5, 0.5), ({pixel})(c)(0.5, 0.02)]")
        assert 30 < middle < 120
        assert rim < 20 or rim > 180
    # And nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_several_files_one_of_them_broken(page: sync_api.Page, tmp_path: Path) -> None:
    good = write(tmp_path, "good.png", scene("GE65432"))
    empty = write(tmp_path, "nothing.png", np.full((200, 300), 120, np.uint8))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"this is no image")
    page.set_input_files("#pick", [good, empty, broken])
    sync_api.expect(page.locator("#status")).to_have_text("3 images read")
    notes = page.locator(".note").all_text_contents()
    assert notes[0].startswith("1 plate · ")
    assert notes[1].startswith("No plate was found")
    wanted = "is not a supported image; use JPEG, PNG, WebP, HEIC, AVIF or JPEG 2000."
    assert notes[2] == f"The file {wanted}"
    assert page.locator(".result").nth(0).locator(".canton").text_content() == "Geneva"
    page.click("#clear")
    sync_api.expect(page.locator(".result")).to_have_count(0)
    sync_api.expect(page.locator("#results-part")).to_be_hidden()


def test_images_can_be_dropped_and_pasted(page: sync_api.Page, tmp_path: Path) -> None:
    content = list(write(tmp_path, "x.png", scene("AG10")).read_bytes())
    for kind in ("drop", "paste"):
        page.evaluate(
            """([bytes, kind]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: "image/png"}));
                const options = {bubbles: true, cancelable: true};
                const event = kind === "drop" ? new DragEvent(kind, {...options, dataTransfer: data})
                    : new ClipboardEvent(kind, {...options, clipboardData: data});
                document.body.dispatchEvent(event);
            }""",
            [content, kind],
        )
    sync_api.expect(page.locator("#status")).to_have_text("2 images read")
    assert page.locator(".name").all_text_contents() == ["drop.png", "paste.png"]


def heic(path: Path, text: str) -> Path:
    pixels = np.repeat(scene(text)[..., None], 3, axis=2)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, quality=90)
    return path


def test_an_image_that_the_browser_cannot_show_is_shown_as_the_server_sees_it(
    page: sync_api.Page, tmp_path: Path
) -> None:
    page.set_input_files("#pick", heic(tmp_path / "IMG_0001.HEIC", "GE65432"))
    result = page.locator(".result")
    sync_api.expect(result.locator(".canton")).to_have_text("Geneva, blue")
    view = result.locator(".view img")
    sync_api.expect(view).to_have_count(1)
    sync_api.expect(view).to_have_attribute("alt", "Image with GE65432 outlined")
    page.wait_for_function("document.querySelector('.view img').complete")
    assert view.evaluate("e => [e.naturalWidth, e.naturalHeight]") == [256, 256]
    middle = result.locator(".cut canvas").evaluate(
        "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]"
    )
    assert 30 < middle < 120
    sync_api.expect(result.locator(".remark")).to_have_count(0)


def test_a_file_with_a_flaw_is_read_with_a_remark(page: sync_api.Page, tmp_path: Path) -> None:
    path = write(tmp_path, "camera.jpg", scene("AG10"))
    path.write_bytes(path.read_bytes()[:-2])
    page.set_input_files("#pick", path)
    sync_api.expect(page.locator(".canton")).to_contain_text("Aargau")
    sync_api.expect(page.locator(".remark")).to_have_text(
        "The file lacks its last bytes: all of the image is there."
    )


def test_an_image_that_is_too_large_is_sent_smaller(
    browser: sync_api.Browser, tmp_path: Path
) -> None:
    """One by its pixels, as a phone with 48 million of them takes it, and one by its bytes."""
    phone = np.full((6048, 8064), 120, np.uint8)
    small = scene("GE65432")
    phone[:6048, :6048] = cv2.resize(small, (6048, 6048), interpolation=cv2.INTER_NEAREST)
    noise = np.random.default_rng(2).integers(0, 256, (900, 1200), dtype=np.uint8)
    limits = {"max_pixels": 1_000_000, "max_side": 1100, "max_body_mib": 0.25}
    with serving(write_bundle(tmp_path / "bundle"), deadline_s=60, **limits) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        sent: list[int] = []
        page.on("request", lambda request: sent.append(len(request.post_data_buffer or b"")))
        page.set_input_files(
            "#pick", [write(tmp_path, "48.jpg", phone), write(tmp_path, "noise.png", noise)]
        )
        results = page.locator(".result")
        sync_api.expect(page.locator("#status")).to_have_text("2 images read", timeout=120_000)
        first, second = (results.nth(number).locator(".remark") for number in range(2))
        sync_api.expect(first).to_have_text(
            re.compile(r"It was sent with 1100 × 82[45] of its 8064 × 6048 pixels, as this server")
        )
        sync_api.expect(second).to_contain_text("of its 1200 × 900 pixels")
        sync_api.expect(results.nth(0).locator(".canton")).to_contain_text("Geneva")
        assert sent
        assert max(sent) <= 2**18
        # What the browser can neither show nor make smaller is not sent at all.
        before = len(sent)
        large = tmp_path / "large.heic"
        large.write_bytes(b"\0\0\0\x18ftypheic" + bytes(2**19))
        page.set_input_files("#pick", large)
        sync_api.expect(results.nth(2).locator(".note")).to_contain_text(
            "this browser cannot make it smaller"
        )
        assert len(sent) == before
        page.close()


def test_a_folder_can_be_dropped(page: sync_api.Page, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    for i in range(120):
        write(folder, f"{i:03}.png", scene("BE1"))
    heic(folder / "day 2" / "IMG_0001.HEIC", "GE65432")
    (folder / "day 2" / "clip.mov").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(b"")
    session = page.context.new_cdp_session(page)
    place = page.locator("#drop").bounding_box()
    assert place is not None
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind, "x": place["x"] + 5, "y": place["y"] + 5,
                "data": {"items": [], "files": [str(folder)], "dragOperationsMask": 1},
            },
        )  # fmt: skip
    sync_api.expect(page.locator("#status")).to_have_text("121 images read", timeout=120_000)
    names = page.locator(".name").all_text_contents()
    assert names[:2] == ["holiday/000.png", "holiday/001.png"]
    assert names[-1] == "holiday/day 2/IMG_0001.HEIC"
    assert page.locator(".canton").count() == 121
    sync_api.expect(page.locator("#left-out")).to_have_text(
        "2 files are left out, no image by name: holiday/.DS_Store, holiday/day 2/clip.mov"
    )
    page.click("#clear")
    sync_api.expect(page.locator("#left-out")).to_have_text("")


# Clips


def two_vehicles(folder: Path) -> Path:
    frames = [*passing("GE65432"), *passing("BE1", top=40)]
    return write_video(folder / "gate.mp4", frames)


def test_a_clip_is_shown_on_a_time_line(page: sync_api.Page, tmp_path: Path) -> None:
    page.set_input_files("#clip", two_vehicles(tmp_path))
    sync_api.expect(page.locator("#status")).to_have_text("1 clip read", timeout=120_000)
    result = page.locator(".result")
    sync_api.expect(result.locator(".note")).to_have_text(
        re.compile(r"2 vehicles in 5\.9 s of video · read in \d+\.\d s")
    )
    chips = result.locator(".chip")
    assert chips.all_text_contents() == ["GE 65432", "BE 1"]
    assert chips.first.get_attribute("aria-label") == "GE 65432, seen from 0.5 to 2.4 s"
    # In the order of time, and within the time line.
    line = result.locator(".timeline").bounding_box()
    assert line is not None
    places = [each.bounding_box() for each in chips.all()]
    for place in places:
        assert line["x"] <= place["x"]
        assert place["x"] + place["width"] <= line["x"] + line["width"] + 1
    extents = [each.bounding_box() for each in result.locator(".extent").all()]
    share = [(each["x"] - line["x"]) / line["width"] for each in extents]
    assert share == pytest.approx([0.5 / 6, 3.5 / 6], abs=0.03)
    # Each has its best frame, its text, and its view from the front.
    cards = result.locator(".event")
    sync_api.expect(cards).to_have_count(2)
    sync_api.expect(cards.locator(".view img")).to_have_count(2)
    assert cards.first.locator("img").get_attribute("alt") == "Image with GE65432 outlined"
    assert "Geneva, blue" in (cards.first.locator(".canton").text_content() or "")
    sync_api.expect(cards.first.locator(".words")).to_contain_text("sure")
    sync_api.expect(cards.first.locator(".times")).to_have_text(
        re.compile(r"Seen from 0\.5 to 2\.4 s; best at \d\.\d s")
    )
    sync_api.expect(cards.first.locator(".way")).to_contain_text("To the right, read in")
    middle = cards.first.locator(".cut canvas").evaluate(
        "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]"
    )
    assert 30 < middle < 120
    for gone in ("progress", ".stop"):
        sync_api.expect(result.locator(gone)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The keyboard leads from the time line to a frame.
    chips.nth(1).focus()
    page.keyboard.press("Enter")
    sync_api.expect(cards.nth(1)).to_be_focused()
    sync_api.expect(cards.nth(1)).to_be_in_viewport()


def test_a_clip_can_be_dropped(page: sync_api.Page, tmp_path: Path) -> None:
    session = page.context.new_cdp_session(page)
    place = page.locator("#drop").bounding_box()
    assert place is not None
    clip = write_video(tmp_path / "drive.mp4", passing("AG10"))
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind, "x": place["x"] + 5, "y": place["y"] + 5,
                "data": {"items": [], "files": [str(clip)], "dragOperationsMask": 1},
            },
        )  # fmt: skip
    sync_api.expect(page.locator("#status")).to_have_text("1 clip read", timeout=120_000)
    assert page.locator(".name").all_text_contents() == ["drive.mp4"]
    assert page.locator(".event .canton").all_text_contents() == ["Aargau, blue"]


def test_clips_and_images_together(page: sync_api.Page, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "none.mp4", [empty()] * 10)
    broken = tmp_path / "broken.mov"
    broken.write_bytes(b"this is no video")
    page.set_input_files("#pick", [write(tmp_path, "x.png", scene("BE1")), clip, broken])
    sync_api.expect(page.locator("#status")).to_have_text(
        "1 image and 2 clips read", timeout=120_000
    )
    notes = page.locator(".note").all_text_contents()
    assert notes[1].startswith("No plate was seen in 0.9 s of video")
    assert notes[2].startswith("The file cannot be read as a video; use MP4")
    assert page.locator(".timeline").nth(0).is_hidden()


def test_a_clip_can_be_stopped(page: sync_api.Page, tmp_path: Path, server: httpx.Client) -> None:
    frames = (frame_with(("BE1", 5 + 9 * i % 200, 20 + 7 * i % 150, 96)) for i in range(3000))
    page.set_input_files("#clip", write_video(tmp_path / "long.avi", frames, 8.0, "MJPG"))
    note = page.locator(".note")
    sync_api.expect(note).to_have_text(re.compile(r"reading: \d+ of 375 s"), timeout=120_000)
    bar = page.locator("progress")
    sync_api.expect(bar).to_have_attribute("max", "375")
    page.get_by_role("button", name="Stop").click()
    sync_api.expect(note).to_have_text("Stopped.")
    sync_api.expect(page.locator("#status")).to_have_text("1 clip read")
    wait_until(lambda: 'plates_clips_total{outcome="gone"}' in server.get("/metrics").text)
    # What is cleared is stopped too, and counts no more.
    page.set_input_files("#clip", tmp_path / "long.avi")
    page.click("#clear")
    page.set_input_files("#pick", write(tmp_path, "x.png", scene("BE1")))
    sync_api.expect(page.locator("#status")).to_have_text("1 image read")


def test_a_server_that_reads_no_clips(browser: sync_api.Browser, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "c.mp4", passing("BE1"))
    with serving(write_bundle(tmp_path / "bundle"), max_clips=0) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        sync_api.expect(page.get_by_text("Choose a clip")).to_be_hidden()
        sync_api.expect(page.locator("#drop-title")).to_have_text("Images to read")
        page.set_input_files("#pick", clip)
        sync_api.expect(page.locator(".note")).to_have_text("This server reads no clips.")
        page.close()


def test_a_clip_that_is_too_large_is_not_sent(browser: sync_api.Browser, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "c.avi", passing("BE1") * 5, codec="MJPG")
    assert clip.stat().st_size > 0.1 * 2**20
    with serving(write_bundle(tmp_path / "bundle"), max_clip_mib=0.1) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url.partition("?")[0]))
        page.set_input_files("#clip", clip)
        sync_api.expect(page.locator(".note")).to_contain_text("The clip is larger than 0.1 MiB")
        assert not [url for url in sent if url.endswith("/v1/events")]
        page.close()


def test_the_keyboard_is_enough(page: sync_api.Page, tmp_path: Path) -> None:
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert seen[:3] == ["pick", "shoot", "clip"]
    with page.expect_file_chooser() as chooser:
        page.focus("#pick")
        page.keyboard.press("Enter")
    chooser.value.set_files(write(tmp_path, "x.png", scene("JU4")))
    sync_api.expect(page.locator(".result")).to_have_count(1)


def test_a_server_that_has_gone_is_said(browser: sync_api.Browser, tmp_path: Path) -> None:
    with serving(write_bundle(tmp_path / "bundle")) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
    page.set_input_files("#pick", write(tmp_path, "x.png", scene()))
    sync_api.expect(page.locator(".note")).to_contain_text("cannot be reached")
    page.close()


def test_an_api_key_can_be_given(browser: sync_api.Browser, tmp_path: Path) -> None:
    with serving(
        write_bundle(tmp_path / "bundle"), api_keys=write_keys(tmp_path / "keys", "open-sesame")
    ) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        image = write(tmp_path, "x.png", scene("BE1"))
        page.set_input_files("#pick", image)
        sync_api.expect(page.locator(".note")).to_contain_text("API key")
        page.click("summary")
        page.fill("#key", "open-sesame")
        page.set_input_files("#pick", image)
        sync_api.expect(page.locator(".canton")).to_have_text("Bern")
        page.close()


def test_the_interface_is_shown_offline(browser: sync_api.Browser, server: httpx.Client) -> None:
    page = browser.new_page()
    page.goto(f"{server.base_url}/docs")
    sync_api.expect(page.get_by_text("/v1/read").first).to_be_visible()
    page.close()
