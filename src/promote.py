"""Promote the exported bundle: copy out/models/stack to models, which is in Git and used by default.

    python -m src.promote [--hardware TEXT]

It is copied if it is what dvc.lock records, has been evaluated, can be loaded and is small enough. The
manifest of the copy gets the metrics of the evaluation, and the commit and the sha256 of dvc.lock of
this moment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from src import bundle
from src.bundle import Bundle, Manifest
from src.config import Config
from src.stack.reader import PlateReader
from src.utils.provenance import dvc_lock, git_revision
from src.utils.stage import StageError, run_stage

STAGES = ("export_stack", "evaluate_stack")
LARGEST = 8_000_000
"""Bytes of the bundle, at most: every clone has it."""


def main(config: Config, target: Path = Path("models"), hardware: str | None = None) -> None:
    """Copy the bundle.

    Args:
        config: where it lies.
        target: the folder to write.
        hardware: what the networks were trained on, for the manifest.

    Raises:
        StageError: it is not what dvc.lock records, was not evaluated, or is too large.
        BundleError: it is damaged.
    """
    source = config.out("models", "stack")
    exported = Bundle.load(source)
    check_recorded()
    manifest = msgspec.structs.replace(
        exported.manifest,
        git_revision=git_revision(),
        dvc_lock=dvc_lock(),
        metrics={**exported.manifest.metrics, "evaluate_stack": evaluation(config)},
        hardware=exported.manifest.hardware | ({"training": hardware} if hardware else {}),
    )
    size = sum(map(len, exported.contents.values()))
    if size > LARGEST:
        raise StageError(f"{source}: has {size:,} bytes; {LARGEST:,} are allowed")
    # Whatever it finds in an even grey: that it runs at all is what counts.
    PlateReader(exported, "onnxruntime", 1).read(np.full((256, 256), 128, np.uint8))
    write(exported, manifest, target)
    print(f"{target}: {size:,} bytes. Commit it together with dvc.lock.")


def check_recorded() -> None:
    """See to it that the bundle and its evaluation are what dvc.lock records.

    Prepared sets and models that are not here do not matter: a training may have run elsewhere.

    Raises:
        StageError: they are not.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc status` fails: {done.stderr.strip()}")
    if changed := changed_files(json.loads(done.stdout.strip() or "{}")):
        raise StageError(
            f"not what dvc.lock records: {', '.join(changed)}. Run `dvc repro evaluate_stack`."
        )


def changed_files(status: dict[str, list[Any]]) -> list[str]:
    """What ``dvc status --json`` says of stages, without dependencies that are not here."""
    changed = []
    for stage, entries in status.items():
        for entry in entries:
            if isinstance(entry, str):
                changed.append(f"{stage} ({entry})")
                continue
            for kind, files in entry.items():
                is_output = kind == "changed outs"
                changed += [path for path, what in files.items() if is_output or what != "deleted"]
    return sorted(set(changed))


def evaluation(config: Config) -> dict[str, Any]:
    """What evaluate_stack measured, without its tables.

    Raises:
        StageError: it has not.
    """
    path = config.out("evaluations", "stack") / "metrics.json"
    try:
        return _figures(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StageError(
            f"{path}: cannot be read: {error}. Run `dvc repro evaluate_stack`."
        ) from error


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _figures(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not name.startswith("by_")
    }


def write(exported: Bundle, manifest: Manifest, target: Path) -> None:
    """Write the files of the bundle; others in the folder stay, but networks of the last bundle.

    The manifest is last: what is cut short does not fit it, and is refused when it is loaded.

    Raises:
        StageError: they cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, content in exported.contents.items():
            _replace(target / name, content)
        _replace(target / bundle.MANIFEST, bundle.manifest_text(manifest).encode())
        for name in bundle.INT8.values():
            if name not in exported.contents:
                (target / name).unlink(missing_ok=True)
    except OSError as error:
        raise StageError(f"{target}: cannot be written: {error.strerror or error}") from error
    Bundle.load(target)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m src.promote", description="Copy the exported bundle to models."
    )
    parser.add_argument(
        "--hardware", metavar="TEXT", help="what the networks were trained on, for the manifest"
    )
    run_stage(partial(main, hardware=parser.parse_args().hardware))
