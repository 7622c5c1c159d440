"""Annotation files as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.datasets.annotations import AnnotatedImage, AnnotationFile
from src.datasets.shards import DatasetError
from src.datasets.tables import read_rows
from src.quality.samples import read_table

HEADER = "file,plate,cx,cy,w,h,lines"
ROWS = ["Zürich 1.png,ZH1,0.5,0.5,0.25,0.2,1", "b.png,FR17855,0.5,0.6,0.25,0.2,2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = np.random.default_rng(1).integers(0, 255, (100, 200)).astype(np.uint8)
    content = cv2.imencode(".png", image)[1].tobytes()
    for name in ("Zürich 1.png", "b.png"):
        (tmp_path / name).write_bytes(content)
    return tmp_path


def plates(path: Path) -> list[tuple[str | None, list[float], int | None]]:
    found: list[AnnotatedImage] = list(AnnotationFile(path))
    return [
        (plate.text, plate.box.round(3).tolist(), plate.lines)
        for image in found
        for plate in image.plates
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join([HEADER.replace(",", ";"), *(row.replace(",", ";") for row in ROWS)]),
        "\n".join([HEADER.replace(",", "\t"), *(row.replace(",", "\t") for row in ROWS)]),
        "sep=;\r\n" + "\r\n".join(line.replace(",", ";") for line in [HEADER, *ROWS]),
        "\r\n".join([HEADER, *ROWS]) + "\r\n",
        "\r".join([HEADER, *ROWS]),
        "sep=;\r" + "\r".join(line.replace(",", ";") for line in [HEADER, *ROWS]),
        "\r\n,,,,,,\r\n" + "\r\n".join([HEADER, *ROWS]),
        "\ufeff" + "\n".join([HEADER, *ROWS]),
        "\n\n".join([HEADER, *ROWS]) + "\n,,,,,,\n",
        "\n".join(f"{line}," for line in [HEADER, *ROWS]),
        "\n".join([HEADER.replace(",", ", "), *(row.replace(",", " , ") for row in ROWS)]),
        # The decimal comma of other countries' Excel.
        "\n".join(line.replace(",", ";").replace("0.", "0,") for line in [HEADER, *ROWS]),
    ],
    ids=[
        "semicolons", "tabs", "sep=", "crlf", "cr", "sep= and cr", "empty lines before", "bom",
        "empty lines", "empty column", "blanks", "decimal comma",
    ],
)  # fmt: skip
def test_every_spelling_of_a_table_is_the_same(folder: Path, text: str) -> None:
    path = folder / "t.csv"
    path.write_bytes(text.encode("utf-8"))
    assert plates(path) == [
        ("ZH1", [75, 40, 125, 60], 1),
        ("FR17855", [75, 50, 125, 70], 2),
    ]
    samples = read_table(path)
    assert samples.labels["plate"].tolist() == ["ZH1", "FR17855"]
    assert samples.labels["problem"].tolist() == ["", ""]
    assert samples.boxes[1] == pytest.approx([0.5, 0.6, 0.25, 0.2])


@pytest.mark.parametrize(
    "plate", ["FR 17855", "FR·17855", "FR.17.855", "fr-17'855", '"FR\n17855"', "FR\u00a017 855"]
)
def test_plates_may_be_written_with_separators(folder: Path, plate: str) -> None:
    path = folder / "t.csv"
    path.write_text(f"file;plate;cx;cy;w;h\nb.png;{plate};0.5;0.5;0.2;0.2\n", encoding="utf-8")
    assert [text for text, _, _ in plates(path)] == ["FR17855"]
    assert read_table(path).labels["plate"].tolist() == ["FR17855"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\nb.png,ZH1,0.5,0.5,0.2,0.2,1,9\n", r"t\.csv, line 2: has 8 values.*7 columns"),
        (f"{HEADER}\n\nb.png,ZH1,0.5,x,0.2,0.2,1\n", r"line 3: `cy` must be a number, not 'x'"),
        (f'{HEADER}\nb.png,"ZH\n1",0.5,x,0.2,0.2,1\n', r"line 3: `cy` must be a number"),
        (f'{HEADER}\nb.png,"ZH1,0.5,0.5,0.2,0.2,1\n', r"line 2: is no valid CSV"),
        (f"{HEADER},cx\n", "has several columns `cx`"),
        ("file;plate;x1;y1;x2\nb.png;ZH1;1;1;9\n", r"a column is missing \(y2\)"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(folder: Path, text: str, message: str) -> None:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        list(AnnotationFile(path))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_is_refused_with_the_remedy(folder: Path, encoding: str) -> None:
    path = folder / "t.csv"
    path.write_text("\n".join([HEADER, *ROWS]), encoding=encoding)
    with pytest.raises(DatasetError, match=r"t\.csv, line \d: is not UTF-8.*`CSV UTF-8`"):
        read_rows(path)


def test_lines_of_problems_are_those_of_the_file(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text(f"{HEADER}\n\n\n{ROWS[1]}\n{ROWS[1].replace('0.6', 'x')}\n", encoding="utf-8")
    samples = read_table(path)
    assert [samples.number(row) for row in range(2)] == ["line 4", "line 5"]
    assert "`cy` is not a number" in samples.labels["problem"].iloc[1]
