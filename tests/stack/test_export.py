"""The stage export_stack: what is exported is PyTorch's, calibrated, and whole."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from src.config import Config, load_config
from src.core import provenance
from src.core.charset import CHARSET
from src.core.errors import StageError
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from src.core.images import load_image
from src.core.layout import LAYOUT
from src.datasets.shards import DatasetError, NewSet, Shard, ShardedSet, write_sets
from src.export import parity
from src.export.onnx import LocalizerOfBytes, ReaderOfBytes, localizer_to_onnx, recognizer_to_onnx
from src.inference import bundle
from src.inference.bundle import Bundle
from src.inference.calibration import LEAST_SAMPLES
from src.inference.colour import colour_features
from src.inference.crops import UPPER
from src.inference.reader import PlateReader
from src.inference.runtimes import Network, best_runtime
from src.models.base import Localizer, ModelError, Recognizer
from src.models.registry import (
    build_localizer,
    build_recognizer,
    load_localizer,
    load_recognizer,
    save_model,
)
from src.stack import export
from tests.bundles import TEXTS, UNSURE, scene, write_bundle
from tests.conftest import ROOT


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def labelled(images: list[NDArray[np.uint8]], texts: list[str]) -> Shard:
    labels = pd.DataFrame({"plate": texts, "present": [bool(text) for text in texts], "lines": 1})
    labels["text"], labels["covered"], labels["colour"] = labels["plate"], 0.0, "white"
    labels[BOX_COLUMNS] = 0.5
    labels[CORNER_COLUMNS] = 0.5
    return Shard(images, labels)


def write_set(folder: Path, shard: Shard) -> ShardedSet:
    write_sets([NewSet(folder, range(len(shard.labels)), lambda _: shard, {})])
    return ShardedSet(folder)


@pytest.fixture(scope="module")
def workspace(_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stage has run, after two networks of random weights."""
    folder = tmp_path_factory.mktemp("export") / "workspace"
    shutil.copytree(_workspace, folder)
    with inside(folder):
        config = load_config()
        torch.manual_seed(0)
        save_model(
            build_localizer("plate_net", config), Path("out/models/localize/model.safetensors")
        )
        save_model(build_recognizer("crnn", config), Path("out/models/ocr/model.safetensors"))
        for name in ("calibration", "negatives", "incomplete", "colours_calibration"):
            images = [scene(size=(128, 128), box=(10, 40, 110, 70)) for _ in range(6)]
            write_set(config.prepared("stack") / name, labelled(images, ["ZH1"] * 6))
        export.main(config)
    return folder


@pytest.fixture
def config(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of the workspace, which is the current folder."""
    monkeypatch.chdir(workspace)
    return load_config()


def test_what_is_written_is_a_bundle(config: Config) -> None:
    folder = config.out("models", "stack")
    assert sorted(path.name for path in folder.iterdir()) == [
        "localizer.int8.onnx", "localizer.onnx", "manifest.json", "recognizer.int8.onnx", "recognizer.onnx",
    ]  # fmt: skip
    manifest = Bundle.load(folder).manifest
    localizer = load_localizer(Path("out/models/localize/model.safetensors"))
    reader = load_recognizer(Path("out/models/ocr/model.safetensors"))
    assert msgspec.structs.asdict(manifest.localizer) == {
        "name": "plate_net", "input_shape": (1, 84, 84), "dense": True, "stride": 8,
        "parameters": sum(weight.numel() for weight in localizer.parameters()),
    }  # fmt: skip
    assert msgspec.structs.asdict(manifest.recognizer) == {
        "name": "crnn", "input_shape": (1, 32, 128), "rectification": "corners", "margin": 0.06,
        "upper": UPPER,
        "parameters": sum(weight.numel() for weight in reader.parameters()),
    }  # fmt: skip
    # Random weights read nothing that could be calibrated: the reader's own word stands.
    assert manifest.calibration["kind"] == "reader"
    assert manifest.threshold >= 0.5
    assert manifest.colours is None
    assert manifest.metrics["differences"]["log_prob"] < 1e-3
    assert ("faster" in manifest.metrics) == (best_runtime() == "openvino")
    assert manifest.hardware["export_stack"]


@pytest.mark.parametrize("name", [bundle.LOCALIZER, bundle.RECOGNIZER])
def test_the_files_tell_nothing_of_this_machine(config: Config, name: str) -> None:
    content = (config.out("models", "stack") / name).read_bytes()
    for path in (ROOT, Path.cwd(), Path(torch.__file__).parent, Path.home()):
        assert os.fsencode(path) not in content
    assert b".py" not in content
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert not [part for part in model.graph.initializer if part.external_data]


@pytest.mark.parametrize("name", bundle.INT8.values())
def test_an_int8_convolution_writes_what_its_relu_leaves(config: Config, name: str) -> None:
    """With a scale of its own for the values before the ReLU, each is converted twice."""
    graph = onnx.load(config.out("models", "stack") / name).graph
    readers = {value: node.op_type for node in graph.node for value in node.input}
    relus = [node for node in graph.node if node.op_type == "Relu"]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    # The first convolution is not of int8. The others have no values below zero to keep, so no ReLU.
    assert [node.input[0] for node in relus] == [convolutions[0].output[0]]
    after = [readers[node.output[0]] for node in convolutions]
    assert after[:8] == ["Relu", *["QuantizeLinear"] * 7]


def test_an_image_is_read_the_same_beside_others_in_int8(config: Config) -> None:
    model = (config.out("models", "stack") / bundle.INT8[bundle.RECOGNIZER]).read_bytes()
    assert b"DynamicQuantizeLSTM" in model
    network = Network(model, "onnxruntime-int8")
    images = noise(9, 32, 128) // np.arange(1, 10, dtype=np.uint8)[:, None, None]
    together = network.run(images)
    for image, beside in zip(images, together, strict=True):
        np.testing.assert_array_equal(network.run(image[None])[0], beside)


def torch_output(module: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(images)).numpy()


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 88, 88), (5, 64, 200), (2, 256, 8), (33, 96, 96), (1, 8, 8)])
def test_the_localizer_is_pytorchs_at_any_size(config: Config, shape: tuple[int, int, int]) -> None:
    localizer = load_localizer(Path("out/models/localize/model.safetensors"))
    content = Bundle.load(config.out("models", "stack")).networks()[0]
    images = noise(*shape)
    maps = Network(content, "onnxruntime").run(images)
    assert maps.shape == (shape[0], 10, shape[1] // 8, shape[2] // 8)
    assert np.abs(maps - torch_output(LocalizerOfBytes(localizer), images)).max() < 1e-3


@pytest.mark.parametrize("count", [1, 2, 7, 70])
def test_the_reader_is_pytorchs(config: Config, count: int) -> None:
    reader = load_recognizer(Path("out/models/ocr/model.safetensors"))
    content = Bundle.load(config.out("models", "stack")).networks()[1]
    images = noise(count, 32, 128)
    log_probs = Network(content, "onnxruntime").run(images)
    assert np.abs(log_probs - torch_output(ReaderOfBytes(reader), images)).max() < 1e-4
    # What the classes lack to 1 is a hidden character. The layout is behind them, and no probability.
    total = np.exp(log_probs[..., : CHARSET.num_classes]).sum(axis=2)
    assert ((total > 0.9) & (total < 1)).all()
    assert log_probs.shape[2] == CHARSET.num_classes + len(LAYOUT)


@pytest.mark.parametrize("name", ["plate_localizer_v3", "plate_ocr_v2"])
def test_the_seeds_networks_are_exported_too(tiny_workspace: Path, name: str) -> None:
    config = load_config(tiny_workspace)
    shrunk = {
        "LocalizeModelParams": {"CONV_LAYERS": [8, 0, 8, 0, 8, 0, 8, 0], "HIDDEN_LAYERS": [16]},
        "OCRModelParams": {"CONV_LAYERS": [8, 0, 8, 0, 8, 0, 8, 0], "GRU_HIDDEN_SIZE": 8},
    }
    for section, values in shrunk.items():
        config = config.model_copy(
            update={section: getattr(config, section).model_copy(update=values)}
        )
    model: Localizer | Recognizer
    if name == "plate_ocr_v2":
        model = build_recognizer(name, config)
        content, module = recognizer_to_onnx(model), ReaderOfBytes(model)
    else:
        model = build_localizer(name, config)
        content, module = localizer_to_onnx(model), LocalizerOfBytes(model)
    images = noise(3, *model.input_shape[1:])
    result = Network(content, "onnxruntime").run(images)
    assert np.abs(result - torch_output(module, images)).max() < 1e-3


def test_a_model_that_pytorch_cannot_export(tiny_workspace: Path) -> None:
    localizer = build_localizer("plate_net", load_config(tiny_workspace))

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("of some operator")

    localizer.forward = fail  # type: ignore[method-assign]
    with pytest.raises(StageError, match=r"cannot export(.|\n)*of some operator"):
        localizer_to_onnx(localizer)


# Comparison


@pytest.fixture(scope="module")
def known(workspace: Path) -> parity.Reference:
    with inside(workspace):
        config = load_config()
        return parity.reference(
            load_localizer(Path("out/models/localize/model.safetensors")),
            load_recognizer(Path("out/models/ocr/model.safetensors")),
            ShardedSet(config.prepared("localize") / "val"),
            ShardedSet(config.prepared("ocr") / "val"),
        )


def test_samples_are_compared(known: parity.Reference, config: Config) -> None:
    assert known.images.shape == (25, 88, 88)
    assert known.crops.shape == (25, 32, 128)
    assert known.plates == ShardedSet(config.prepared("ocr") / "val").plates
    stack = Bundle.load(config.out("models", "stack"))
    differences = parity.compare_exactly(known, *stack.networks())
    assert 0 < max(differences.values()) < 1e-3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda known: known.maps[3, 0, 5, 5].__iadd__(0.1), "logit"),
        (lambda known: known.maps[3, 7].__iadd__(0.05), "corner_px"),
        (lambda known: known.log_probs[2, 4].__iadd__(0.01), "log_prob"),
        (lambda known: known.maps.__setitem__((0, 0, 0, 0), np.nan), "logit is nan"),
    ],
)
def test_other_networks_are_refused(
    known: parity.Reference, config: Config, change: Callable[[parity.Reference], Any], says: str
) -> None:
    stack = Bundle.load(config.out("models", "stack"))
    other = dataclasses.replace(known, maps=known.maps.copy(), log_probs=known.log_probs.copy())
    if says == "logit":
        other.maps[3, 0, 5, 5] += 0.1
    else:
        change(other)
    with pytest.raises(StageError, match=says):
        parity.compare_exactly(other, *stack.networks())


def test_decisions_are_compared(known: parity.Reference, config: Config) -> None:
    """With ONNX Runtime as the other runtime, whose decisions are PyTorch's."""
    stack = Bundle.load(config.out("models", "stack"))
    # As sure as if it had learnt something.
    sure = dataclasses.replace(known, maps=known.maps.copy())
    sure.maps[:, 0] += 9
    readings = parity._texts(known.log_probs)
    sure = dataclasses.replace(sure, plates=[*readings[:20], *[""] * 5])
    result = parity.compare_decisions(sure, *stack.networks(), "onnxruntime")
    assert result["equal_texts"] == result["right"] == result["right_in_pytorch"] == 1
    assert result["plates_compared"] == 25
    assert result["corner_px_95"] < 0.02
    worse = dataclasses.replace(sure, log_probs=known.log_probs.copy())
    worse.log_probs[4] = known.log_probs[4, :, ::-1]
    worse = dataclasses.replace(worse, plates=parity._texts(worse.log_probs))
    assert parity.loss(result) is None
    result = parity.compare_decisions(worse, *stack.networks(), "onnxruntime")
    assert "loses 4.0% of the texts" in str(parity.loss(result))
    sure.maps[:, 2:] += 0.6
    result = parity.compare_decisions(sure, *stack.networks(), "onnxruntime")
    assert re.search(
        r"median corner error of onnxruntime is 0\.8\d pixels", str(parity.loss(result))
    )
    # Of networks that have learnt nothing there is nothing to say.
    result = parity.compare_decisions(known, *stack.networks(), "onnxruntime")
    assert (result["plates_compared"], result["corner_px_median"]) == (0, None)
    assert parity.loss(result) is None


def test_weights_that_are_no_numbers(workspace: Path, config: Config) -> None:
    localizer = load_localizer(Path("out/models/localize/model.safetensors"))
    with torch.no_grad():
        next(localizer.parameters())[0] = torch.nan
    with pytest.raises(StageError, match="not finite"):
        parity.reference(
            localizer,
            load_recognizer(Path("out/models/ocr/model.safetensors")),
            ShardedSet(config.prepared("localize") / "val"),
            ShardedSet(config.prepared("ocr") / "val"),
        )


# Calibration


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> PlateReader:
    return PlateReader.load(write_bundle(tmp_path_factory.mktemp("stand-in")), "onnxruntime")


def test_probabilities_are_fitted_to_what_is_read(stand_in: PlateReader, tmp_path: Path) -> None:
    """Sure texts are right, of the others one in four; some are on plates without a text."""
    images, texts = [], []
    for i in range(200):
        text = TEXTS[i % 2 * UNSURE]
        images.append(scene(text, (20, 90, 140, 122)))
        texts.append(text if i % 2 == 0 or i % 8 == 1 else ("", "ZH1", "BE1")[i % 3])
    known = write_set(tmp_path / "calibration", labelled(images, texts))
    clutter_images = [
        scene(TEXTS[UNSURE]) if i % 2 else np.full((256, 256), 120, np.uint8) for i in range(50)
    ]
    clutter = write_set(tmp_path / "clutter", labelled(clutter_images, [""] * 50))
    calibration, threshold, hidden = export.calibrate(stand_in, known, clutter, known)
    assert calibration.kind == "logistic"
    assert (hidden.value, hidden.pictures) == (0.5, 0)
    assert (calibration.samples, calibration.right) == (200, 125)
    ((sure,), (unsure,)) = stand_in.candidates(images[:2])
    probabilities = calibration.probability(np.stack([sure.features, unsure.features]))
    assert probabilities == pytest.approx([1, 0.25], abs=0.05)
    assert (threshold.value, threshold.pictures, threshold.with_text) == (0.5, 50, 0)
    # Sure texts where there is no plate: the threshold is above them.
    clutter = write_set(tmp_path / "clutter", labelled([scene() for _ in range(50)], [""] * 50))
    _, threshold, _ = export.calibrate(stand_in, known, clutter, known)
    assert threshold.value > probabilities[0] - 0.01
    assert threshold.with_text == 0


def test_with_nothing_read_the_reader_is_believed(stand_in: PlateReader, tmp_path: Path) -> None:
    empty = write_set(
        tmp_path / "empty", labelled([np.full((64, 64), 120, np.uint8)] * 3, [""] * 3)
    )
    calibration, threshold, hidden = export.calibrate(stand_in, empty, empty, empty)
    assert calibration.kind == "reader"
    assert hidden.value == 0.5
    assert str(LEAST_SAMPLES) in calibration.note
    assert threshold.value == 0.5


def test_wrong_texts_of_hidden_plates_raise_the_threshold(
    stand_in: PlateReader, tmp_path: Path
) -> None:
    """The reader is sure of a text that is not the plate's; of the others it reads the plate's own."""
    shard = labelled([scene(TEXTS[0], (20, 90, 140, 122)) for _ in range(200)], [TEXTS[0]] * 200)
    shard.labels.loc[:9, ["plate", "text", "covered"]] = ["", "ZH9999999", 1.0]
    shard.labels.loc[10:19, ["plate", "covered"]] = ["", 1.0]
    known = write_set(tmp_path / "hidden", shard)
    calibration, _, hidden = export.calibrate(stand_in, known, known, known)
    ((candidate,),) = stand_in.candidates([shard.images[0]])
    (probability,) = calibration.probability(candidate.features[None])
    assert hidden.pictures == 20
    assert hidden.value > probability
    assert hidden.with_text == 0


def test_colours_are_fitted_where_plates_are_found(stand_in: PlateReader, tmp_path: Path) -> None:
    tints = {"white": (1.0, 1.0, 1.0), "blue": (0.6, 0.8, 1.0), "": (1.0, 1.0, 1.0)}
    names = [("white", "blue", "")[i % 3] for i in range(60)]
    box = (20, 90, 140, 122)
    images = np.empty((60, 256, 256, 3), np.uint8)
    for i, name in enumerate(names):
        images[i] = scene(TEXTS[i % UNSURE], box)[..., None]
        if name:
            # What is around the plates has colours too.
            images[i, 150:, :128] = (200, 90, 60 + i)
        inside = images[i, box[1] + 4 : box[3] - 4, box[0] + 4 : box[2] - 4]
        inside[:] = inside * np.array(tints[name])
    corners = np.array([[20, 90], [140, 90], [140, 122], [20, 122]]) / 256
    labels = labelled([], ["ZH1"] * 60).labels.assign(colour=names)
    labels[CORNER_COLUMNS] = corners.ravel()
    known = write_set(tmp_path / "colours", Shard(images, labels))
    model = export.train_colours(stand_in, known)
    assert model is not None
    told = []
    for image in images:
        ((best, *_),) = stand_in.candidates([image])
        values = colour_features(
            load_image(image), [best.corners], [best.confidence], [best.reading]
        )
        assert values is not None
        told.append(model.colours(values)[0][0] or "")
    assert told == names
    # Where no plate is found, there is nothing to learn.
    labels[CORNER_COLUMNS] = (corners + 0.6).ravel()
    elsewhere = write_set(tmp_path / "elsewhere", Shard(images, labels))
    assert export.train_colours(stand_in, elsewhere) is None


# What is missing


@pytest.mark.parametrize(
    ("missing", "error", "says"),
    [
        ("out/models/localize", ModelError, "dvc repro train_localize"),
        ("out/models/ocr", ModelError, "dvc repro train_ocr"),
        ("data/prepared/stack/negatives", DatasetError, "stack/negatives"),
        ("data/prepared/ocr/val", DatasetError, "ocr/val"),
    ],
)
def test_a_failure_leaves_what_was_there(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    missing: str, error: type[Exception], says: str,
) -> None:  # fmt: skip
    folder = tmp_path / "workspace"
    shutil.copytree(workspace, folder)
    shutil.rmtree(folder / missing)
    monkeypatch.chdir(folder)
    stack = Bundle.load(Path("out/models/stack"))
    # Exporting takes seconds, and is not what fails here.
    monkeypatch.setattr(export, "localizer_to_onnx", lambda _: stack.networks()[0])
    monkeypatch.setattr(export, "recognizer_to_onnx", lambda _: stack.networks()[1])
    before = (folder / "out/models/stack/manifest.json").read_bytes()
    with pytest.raises(error, match=says):
        export.main(load_config())
    assert (folder / "out/models/stack/manifest.json").read_bytes() == before
    assert sorted(path.name for path in (folder / "out/models").iterdir()) == sorted(
        {"localize", "ocr", "stack"}
        - ({missing.rsplit("/", 1)[1]} if "models" in missing else set())
    )


# Where it comes from


def test_the_commit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_revision() is None
    (tmp_path / "params.py").write_text("A = 1\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "Start"]):
        subprocess.run(["git", *command], check=True)
    commit = provenance.git_revision()
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "dvc.lock").write_text("results are no code\n")
    assert provenance.git_revision() == commit
    (tmp_path / "params.py").write_text("A = 2\n")
    assert provenance.git_revision() == f"{commit}-dirty"


def test_the_lock_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance.dvc_lock() is None
    (tmp_path / "dvc.lock").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.dvc_lock() == known


def test_the_machine_is_named() -> None:
    text = provenance.machine("Some GPU")
    assert "cores of" in text
    assert text.endswith(", Some GPU")
    assert json.dumps(text)
