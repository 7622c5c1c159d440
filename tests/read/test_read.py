"""The command that reads images, as people call it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from src.inference.reader import PlateReader
from src.read import __main__ as read
from src.read.__main__ import drawing_path, main
from src.read.paths import Found, LeftOut, find_files
from tests.bundles import BLACK, TEXTS, UNSURE, draw_plate, scene, write_bundle

ROOT = Path(__file__).parents[2]
KEYS = ["plate", "canton", "number", "confidence", "char_confidences", "box", "corners", "lines",
        "format", "reason", "colour", "colour_confidence"]  # fmt: skip
"""As documented, in their order."""
LEFT_OUT = (
    "warning: 2 files were not read, as their names are not those of images: photos/._one.png, "
    "photos/notes.txt"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("read") / "bundle")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``photos`` of the current one, with good and bad files in it."""
    folder = tmp_path / "photos"
    (folder / "a" / "deep").mkdir(parents=True)
    cv2.imwrite(str(folder / "one.png"), scene("GE65432"))
    two = draw_plate(
        scene("TI1234567", (20, 40, 140, 70)), TEXTS[UNSURE], (120, 180, 240, 210), BLACK
    )
    cv2.imwrite(str(folder / "a" / "two.PNG"), two)
    cv2.imwrite(str(folder / "a" / "deep" / "none.bmp"), np.full((99, 120), 120, np.uint8))
    (folder / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (folder / "zero.jpeg").write_bytes(b"")
    # Nobody's images.
    (folder / "notes.txt").write_text("nothing")
    (folder / "._one.png").write_bytes(b"what another system keeps")
    monkeypatch.chdir(tmp_path)
    return folder


def run(
    capfd: pytest.CaptureFixture[str], model: Path, *arguments: str | Path
) -> tuple[int, list[str], list[str]]:
    """Status, lines of output and lines of errors of the command."""
    status = main([*map(str, arguments), "--model", str(model)])
    output, errors = capfd.readouterr()
    return status, output.splitlines(), errors.splitlines()


def objects(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


# Output


def test_json(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "--json", "photos")
    assert status == 1
    found = objects(output)
    paths = ["one.png", "zero.jpeg", "a/broken.jpg", "a/two.PNG", "a/deep/none.bmp"]
    assert [item["path"] for item in found] == [f"photos/{path}" for path in paths]
    one, zero, broken, two, none = found
    assert zero == {"path": "photos/zero.jpeg", "error": "photos/zero.jpeg: is empty"}
    assert list(broken) == ["path", "error"]
    assert "photos/a/broken.jpg: is truncated" in broken["error"]
    assert none == {"path": "photos/a/deep/none.bmp", "plates": []}
    assert errors == [
        f"error: {zero['error']}",
        f"error: {broken['error']}",
        LEFT_OUT,
    ]
    (plate,) = one["plates"]
    assert list(plate) == KEYS
    assert (plate["plate"], plate["canton"], plate["number"]) == ("GE65432", "GE", "65432")
    assert 0.95 < plate["confidence"] <= 1
    assert len(plate["char_confidences"]) == 6
    assert plate["box"] == pytest.approx([60, 100, 180, 132], abs=1)
    assert np.shape(plate["corners"]) == (4, 2)
    assert plate["lines"] == 1
    # The best one first; what is not sure enough is a box without a text.
    first, second = two["plates"]
    assert (first["plate"], second["plate"]) == ("TI1234567", None)
    assert second["canton"] is second["number"] is None
    assert list(second) == KEYS
    assert second["box"] == pytest.approx([120, 180, 240, 210], abs=1)


def test_text(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "photos/a", "photos/one.png")
    assert status == 1
    assert [line.rsplit(" (", 1)[0] for line in output] == [
        "photos/a/two.PNG: TI 1234567",
        "photos/a/two.PNG: a plate, but no text is confident enough",
        "photos/a/deep/none.bmp: no plate",
        "photos/one.png: GE 65432",
    ]
    assert output[0].endswith("%)")
    assert len(errors) == 1
    assert errors[0].startswith("error: photos/a/broken.jpg: is truncated")


def test_all_is_well(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "photos/one.png")
    assert (status, len(output), errors) == (0, 1, [])


def test_the_least_confidence(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    _, output, _ = run(capfd, model, "--json", "--min-confidence", "0", "photos/a/two.PNG")
    assert [plate["plate"] for plate in objects(output)[0]["plates"]] == [
        "TI1234567",
        TEXTS[UNSURE],
    ]
    _, output, _ = run(capfd, model, "--json", "--min-confidence", "1", "photos/a/two.PNG")
    assert [plate["plate"] for plate in objects(output)[0]["plates"]] == [None, None]
    for wrong in ("1.1", "-0.1", "much", "nan"):
        with pytest.raises(SystemExit) as caught:
            main(["--min-confidence", wrong, "photos"])
        assert caught.value.code == 2
        says = f"argument --min-confidence: must be a number from 0 to 1, not '{wrong}'"
        assert says in capfd.readouterr().err
    for wrong in ("21", "-1", "1.5"):
        with pytest.raises(SystemExit):
            main(["--alternatives", wrong, "photos"])
        says = f"argument --alternatives: must be a whole number from 0 to 20, not '{wrong}'"
        assert says in capfd.readouterr().err


def test_a_bundle_that_is_missing(
    capfd: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    status, output, errors = run(capfd, tmp_path / "nowhere", "photos")
    assert (status, output) == (1, [])
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "there is no bundle" in errors[0]


def test_a_fault_of_the_program_does_not_stop_the_others(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = PlateReader._candidates

    def fail(self: PlateReader, images: Any, **options: Any) -> Any:
        if any(image.grey.shape == (99, 120) for image in images):
            raise ZeroDivisionError("of all things")
        return found(self, images, **options)

    monkeypatch.setattr(PlateReader, "_candidates", fail)
    status, output, _ = run(
        capfd, model, "--json", "photos/one.png", "photos/a/deep", "photos/one.png"
    )
    first, failed, last = objects(output)
    assert status == 1
    assert first == last
    assert first["plates"][0]["plate"] == "GE65432"
    assert "ZeroDivisionError: of all things" in failed["error"]


# Paths


def test_files_are_found(images: Path) -> None:
    def found(*arguments: str) -> list[str]:
        return [result.path for result in find_files(arguments)]

    assert found("photos/*.png", "photos/one.png") == ["photos/one.png"] * 2
    assert found("photos/**/*.PNG") == ["photos/a/two.PNG"]
    # Each once, though the pattern finds the folders too.
    assert found("photos/**") == sorted(found("photos"))
    assert sorted(found("photos/**/*")) == sorted([*found("photos"), "photos/notes.txt"])
    # What a pattern finds may be a folder.
    assert found("phot*/a/de?p") == ["photos/a/deep/none.bmp"]
    assert found(str(images / "o*")) == [str(images / "one.png")]
    # A name is a name, whatever it looks like.
    (images / "a[1].png").write_bytes(b"")
    assert found("photos/a[1].png") == ["photos/a[1].png"]
    (result,) = find_files(["photos/*.gif"])
    assert (result.path, result.error) == ("photos/*.gif", "photos/*.gif: no file matches")
    # What is named is tried, whatever it is.
    assert found("photos/notes.txt", "missing") == ["photos/notes.txt", "missing"]


def test_a_path_that_cannot_be_is_an_error_of_its_own(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    status, output, _ = run(capfd, model, "--json", "a" * 300, "b" * 300 + "*", "photos/one.png")
    first, second, third = objects(output)
    assert "File name too long" in first["error"]
    assert "no file matches" in second["error"]
    assert third["plates"]
    assert status == 1


def paths_below(*arguments: str) -> tuple[list[str], LeftOut]:
    left_out = LeftOut()
    return [found.path for found in find_files(arguments, left_out=left_out)], left_out


def test_links_to_folders_are_followed_once(images: Path, tmp_path: Path) -> None:
    before, _ = paths_below("photos")
    # To the folder itself, to one beside it, to each other, and away from it.
    (images / "a" / "again").symlink_to(images)
    (images / "0").symlink_to(images / "a" / "deep")
    away, other = tmp_path / "away", tmp_path / "other"
    for folder, beside in ((away, other), (other, away)):
        folder.mkdir()
        cv2.imwrite(str(folder / "x.png"), scene())
        (folder / "beside").symlink_to(beside)
    (images / "z").symlink_to(away)
    (images / "broken").symlink_to("nowhere")
    (images / "link.png").symlink_to(images / "one.png")
    found, left_out = paths_below("photos")
    assert found == [
        "photos/link.png", *before, "photos/z/x.png", "photos/z/beside/x.png",
    ]  # fmt: skip
    assert left_out.links.first == ["photos/0", "photos/a/again", "photos/z/beside/beside"]
    assert "photos/broken" in left_out.files.first
    # What is named is followed, whatever it is.
    assert paths_below("photos/z", "photos/0")[0] == [
        "photos/z/x.png", "photos/z/beside/x.png", "photos/0/none.bmp",
    ]  # fmt: skip


def test_what_is_left_out_is_said(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    (images / "a" / "again").symlink_to(images)
    for i in range(30):
        (images / "a" / f"{i:02}.txt").touch()
    status, _, errors = run(capfd, model, "photos/a/deep", "photos/one.png")
    assert (status, errors) == (0, [])
    status, _, errors = run(capfd, model, "photos/a")
    assert status == 1
    (files, link) = errors[-2:]
    assert files.startswith(
        "warning: 32 files were not read, as their names are not those of images: "
    )
    assert "photos/a/00.txt, photos/a/01.txt" in files
    assert files.endswith(" and 12 more")
    assert link == (
        "warning: 1 link was not followed, as its folder is searched anyway: photos/a/again/a"
    )


def test_a_folder_without_images_is_an_error(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    empty, texts = images / "empty", images / "texts" / "deep"
    empty.mkdir()
    texts.mkdir(parents=True)
    (texts / "notes.txt").touch()
    status, output, errors = run(
        capfd, model, "--json", "photos/empty", "photos/texts", "photos/one.png"
    )
    assert status == 1
    first, second, third = objects(output)
    assert first == {"path": "photos/empty", "error": "photos/empty: has no images"}
    assert second["error"] == "photos/texts: has no images; it has 1 other file"
    assert third["plates"]
    assert errors[-1] == (
        "warning: 1 file was not read, as its name is not that of an image: "
        "photos/texts/deep/notes.txt"
    )
    # One image of many is enough.
    assert run(capfd, model, "photos/a/deep")[0] == 0


# Files


def written(path: Path, kind: str, **options: Any) -> bytes:
    image = Image.fromarray(scene("GE65432", size=(200, 300)))
    if kind == "HEIF":
        from pillow_heif import from_pillow

        from_pillow(image).save(path, quality=90)
    else:
        image.save(path, kind, **options)
    return path.read_bytes()


def test_what_cameras_and_phones_write_is_read(
    capfd: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    written(folder / "phone.HEIC", "HEIF")
    written(folder / "photo.avif", "AVIF", quality=90)
    written(folder / "photo.jp2", "JPEG2000")
    written(folder / "raw.j2k", "JPEG2000", no_jp2=True)
    other = Image.new("L", (300, 200), 90)
    written(folder / "stereo.mpo", "MPO", save_all=True, append_images=[other], quality=95)
    whole = written(folder / "whole.jpg", "JPEG", quality=95)
    (folder / "cut.jpg").write_bytes(whole[:-2])
    (folder / "late.jpg").write_bytes(b"\r\n" + whole)
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    status, output, errors = run(capfd, model, "--json", "files")
    found = {Path(item["path"]).name: item for item in objects(output)}
    assert len(found) == 9
    half = found.pop("half.jpg")
    assert status == 1
    assert re.fullmatch(
        r"files/half\.jpg: is truncated: \d\d % of the image is there", half["error"]
    )
    for name, item in found.items():
        assert [plate["plate"] for plate in item["plates"]] == ["GE65432"], name
    warnings = {name: item["warnings"] for name, item in found.items() if "warnings" in item}
    assert warnings == {
        "cut.jpg": ["files/cut.jpg: lacks its last bytes: all of the image is there"],
        "late.jpg": [
            "files/late.jpg: has 2 bytes before the start of the image, which are left out"
        ],
    }
    said = [f"warning: {each}" for texts in warnings.values() for each in texts]
    assert sorted(errors) == sorted([f"error: {half['error']}", *said])


def test_heic_without_its_extra(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(images / "phone.heic", "HEIF")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "src.core.images.find_spec", lambda name: None if name == "pillow_heif" else find(name)
    )
    status, _, errors = run(capfd, model, "photos/phone.heic")
    assert status == 1
    (error,) = errors
    assert error.endswith("is a HEIC image, which needs an extra: pip install 'swiss-plates[heic]'")


@pytest.mark.parametrize(
    "reason", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_a_folder_that_cannot_be_searched(
    images: Path, monkeypatch: pytest.MonkeyPatch, reason: OSError
) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("deep"):
            # Without the name of the folder, as where its entries cannot be read.
            raise reason
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    results = list(find_files(["photos"]))
    assert len(results) == 5
    assert results[-1] == Found(
        "photos/a/deep", error=f"photos/a/deep: cannot be searched: {reason.strerror}"
    )


def command(model: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "src.read", *arguments, "--model", str(model)]


def environment() -> dict[str, str]:
    # As where the language is none: names of files that are no UTF-8 would be errors.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}


def test_a_list_that_comes_slowly_is_read_as_it_comes(model: Path, images: Path) -> None:
    with subprocess.Popen(
        command(model, "-", "--json"), env=environment(), text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for path in ("photos/one.png", "photos/a/two.PNG", "photos/zero.jpeg"):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], 60)
            assert ready, "the result of a path waits for the next one"
            assert json.loads(process.stdout.readline())["path"] == path
        # A folder, an empty line, and names of any characters.
        name = "photos/n\u00e4me \u2603\udcff.png"
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == "error: photos/zero.jpeg: is empty\n"
    (images / "one.png").rename(name)
    done = subprocess.run(
        command(model, "-", "--json"), env=environment(), capture_output=True, check=False,
        input=b"photos/a/deep\n\n" + os.fsencode(name) + b"\r\n",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = objects(done.stdout.decode("ascii").splitlines())
    assert first["path"] == "photos/a/deep/none.bmp"
    assert second["path"] == name
    assert second["plates"][0]["plate"] == "GE65432"
    done = subprocess.run(command(model, name), env=environment(), capture_output=True, check=False)
    assert done.stdout.startswith(os.fsencode(name))


def test_nobody_reads_on(model: Path, images: Path) -> None:
    for i in range(2000):
        (images / f"{i}.png").symlink_to(images / "one.png")
    with subprocess.Popen(
        command(model, "photos", "--json"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == read.BROKEN_PIPE
    assert [line for line in errors.splitlines() if not line.startswith(b"error: photos/")] == []


@pytest.mark.parametrize("argument", ["-", "photos"])
def test_ctrl_c_ends_quietly(model: Path, images: Path, argument: str) -> None:
    for i in range(3000):
        (images / f"{i}.png").symlink_to(images / "one.png")
    with subprocess.Popen(
        command(model, argument), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        if argument == "-":
            process.stdin.write(b"photos/one.png\n")
            process.stdin.flush()
        assert process.stdout.readline().startswith(b"photos/")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
        assert time.monotonic() - start < 10
        assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"Fatal" not in errors


def long_names(folder: Path, count: int) -> None:
    """Empty files whose names are so long that a line does not fit into a pipe's buffer."""
    for i in range(count):
        (folder / f"{i:04}{'x' * 240}.png").touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_whole_lines(model: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path.joinpath(*(["y" * 250] * 6))
    folder.mkdir(parents=True)
    long_names(folder, 300)
    with subprocess.Popen(
        command(model, str(tmp_path), "--json"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # The tests may run under nohup, which ignores SIGHUP.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:  # fmt: skip
        first = process.stdout.readline()
        # Nobody reads on: the command waits within a line.
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(number)
        time.sleep(0.5)
        output = first + process.stdout.read()
        errors = process.stderr.read()
        assert process.wait(60) == 128 + number
    assert output.endswith(b"\n")
    found = objects(output.decode().splitlines())
    assert 1 < len(found) < 300
    assert all(item["error"].endswith("is empty") for item in found)
    assert b"Traceback" not in errors


def test_a_second_signal_does_not_wait_for_the_output(model: Path, tmp_path: Path) -> None:
    long_names(tmp_path, 1000)
    with subprocess.Popen(
        command(model, str(tmp_path), "--json"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        process.stdout.readline()
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_output_that_cannot_be_written(model: Path, images: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(model, "photos/one.png", "--json"), env=environment(), check=False,
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: the results cannot be written: No space left on device\n"


def test_errors_never_get_into_the_output(model: Path, images: Path) -> None:
    """Where standard error is closed, as some daemons do."""
    line = " ".join(command(model, "photos/zero.jpeg", "photos/one.png", "--json"))
    done = subprocess.run(
        ["sh", "-c", f"{line} 2>&-"], env=environment(), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert [item["path"] for item in objects(done.stdout.splitlines())] == [
        "photos/zero.jpeg", "photos/one.png",
    ]  # fmt: skip


def first_result(model: Path, argument: Path) -> float:
    """Seconds from the start of the command to its first result, the best of three."""
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with subprocess.Popen(
            command(model, str(argument), "--json"), env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdout.readline()
            seconds.append(time.monotonic() - start)
            process.kill()
    return min(seconds)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_thousand_files(model: Path, tmp_path: Path) -> None:
    """The first result comes at once, and memory stays as it is after the first thousand."""
    count, originals = 100_000, 4
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(originals):
        cv2.imwrite(str(tmp_path / f"{i}.png"), scene(TEXTS[i], (8, 10, 88, 30), (40, 96)))
    for i in range(count):
        os.link(tmp_path / f"{i % originals}.png", folder / f"{i:06}.png")
    # Names are listed and sorted in a tenth of a second; the rest is the start of any run.
    assert first_result(model, folder) < first_result(model, folder / "000000.png") + 0.5
    memory = []
    with subprocess.Popen(
        command(model, str(folder), "--json"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        watched = psutil.Process(process.pid)
        for number, line in enumerate(process.stdout, 1):
            if number == 1000 or number % 10_000 == 0:
                assert json.loads(line)["plates"]
                memory.append(watched.memory_info().rss)
    assert (process.returncode, number) == (0, count)
    assert max(memory) - memory[0] < 16 * 2**20


def test_results_keep_the_order_of_the_paths(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    """Some take long and some fail, in several threads."""
    names = []
    for i in range(60):
        size = (1500, 1500) if i % 7 == 0 else (200, 256)
        path = images / f"{i:02}.png"
        cv2.imwrite(str(path), scene(TEXTS[i % UNSURE], (20, 100, 120, 130), size))
        if i % 11 == 5:
            path.write_bytes(b"")
        names.append(f"photos/{i:02}.png")
    status, output, _ = run(capfd, model, "--json", *names)
    found = objects(output)
    assert status == 1
    assert [item["path"] for item in found] == names
    for i, item in enumerate(found):
        if i % 11 == 5:
            assert "error" in item
        elif i % 7:
            assert [plate["plate"] for plate in item["plates"]] == [TEXTS[i % UNSURE]]


# Drawing


def test_drawings(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(scene("BE1", size=(200, 300)))))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(images / "turned.png", exif=exif)
    run(capfd, model, "photos", "--draw", "drawn")
    drawn = Path("drawn")
    names = ["one.png", "a/two.PNG", "a/deep/none.bmp", "turned.png"]
    expected = {drawn / "photos" / f"{name}.plates.jpg" for name in names}
    assert {path for path in drawn.rglob("*") if path.is_file()} == expected
    one = cv2.imread(str(drawn / "photos/one.png.plates.jpg"))
    changed = np.abs(one.astype(int) - cv2.imread("photos/one.png")).max(axis=2) > 60
    # The outline is there, what is far from it is as it was.
    assert changed[100, 60:180].mean() > 0.8
    assert not changed[150:, :].any()
    assert not changed[:, 200:].any()
    none = cv2.imread(str(drawn / "photos/a/deep/none.bmp.plates.jpg"))
    assert np.abs(none.astype(int) - 120).max() <= 2
    # As it is displayed: width and height are not those of the file.
    assert cv2.imread(str(drawn / "photos/turned.png.plates.jpg")).shape == (200, 300, 3)


def test_drawings_are_not_read_in_turn(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    for _ in range(2):
        _, output, _ = run(capfd, model, ".", "--json", "--draw", "photos/drawn")
        assert len(output) == 5
    assert len(list(images.glob("drawn/**/*.jpg"))) == 3


def test_drawings_of_two_files_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    paths = [
        "a.jpg",
        "a.png",
        "b/a.jpg",
        "../a.jpg",
        str(tmp_path / "b" / "a.jpg"),
        "/a.jpg",
        "../../a.jpg",
    ]
    places = {drawing_path(path, Path("out")) for path in paths}
    assert len(places) == len(paths)
    assert all(".." not in place.parts and place.parts[0] == "out" for place in places)
    assert drawing_path("b/../a.jpg", Path("out")) == drawing_path("./a.jpg", Path("out"))
    assert drawing_path(str(here / "a.jpg"), Path("out")) == Path("out/a.jpg.plates.jpg")


def test_a_drawing_that_cannot_be_written(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    Path("drawn").write_text("a file where a folder should be")
    status, output, errors = run(capfd, model, "photos/one.png", "--json", "--draw", "drawn")
    assert status == 1
    assert objects(output)[0]["plates"][0]["plate"] == "GE65432"
    assert len(errors) == 1
    assert errors[0].startswith("error: photos/one.png: cannot write the drawing: ")


def test_help_says_what_there_is(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capfd.readouterr().out
    for option in ("PATH", "--json", "--draw DIR", "--min-confidence P", "--model DIR"):
        assert option in output
