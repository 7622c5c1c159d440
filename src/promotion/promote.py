"""Promote the exported bundle if it is better than the promoted one.

    python -m src.promote [--rev REV] [--labels CSV ...] [--primary SET] [--tag]
    python -m src.promote --restore

The candidate is ``out/models/stack`` of the workspace, which must match dvc.lock, or that of a revision.
It is compared with the promoted bundle on the same images: the sets ``val``, ``shifted``, ``occluded``,
``clutter`` and ``colours`` of ``data/prepared/stack``, and any annotation files given.
src/promotion/gate.py decides. The bundle is promoted by writing it to ``models``, which is tracked by Git
and used by default, with a model card and a manifest that has the metrics of its evaluation, the commit,
the sha256 of dvc.lock and the comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import dvc.api
import msgspec
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError, resolve_rev
from numpy.typing import NDArray

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError
from ..core.machine import available_cores
from ..core.program import program
from ..core.provenance import dvc_lock, git_revision
from ..datasets.annotations import AnnotationFile, PreparedAnnotations
from ..datasets.shards import ShardedSet
from ..evaluation.end_to_end import score
from ..inference import bundle
from ..inference.bundle import Bundle, BundleError, Manifest
from ..inference.reader import PlateReader
from ..inference.runtimes import best_runtime
from . import gate
from .model_card import CARD, card

STAGES = ("export_stack", "evaluate_stack")
OWN_SETS = ("val", "shifted")
CLUTTER, HIDDEN, COLOURS = "clutter", "occluded", "colours"
LARGEST = 8_000_000
"""Maximum size of the bundle in bytes, as every clone of the repository contains it."""
ARTIFACT, STAGE = "bundle", "prod"
"""Name of the artifact, and of its stage, in the model registry."""
_TIMED, _ROUNDS = 30, 5
"""Number of images used to compare latency, and number of times that each is read."""


class RefusedError(StageError):
    """Raised if the candidate is not better than the promoted bundle, or not good enough."""


@dataclass(frozen=True)
class Options:
    """Options of a promotion.

    Attributes:
        target: Folder of the promoted bundle.
        rev: Revision of the candidate, or None for the workspace.
        labels: Annotation files to compare on as well.
        primary: Name of the set on which the candidate must be better.
        hardware: Hardware that the networks were trained on, for the manifest.
        tag: Whether to commit and tag the promoted bundle.
    """

    target: Path = Path("models")
    rev: str | None = None
    labels: Sequence[Path] = ()
    primary: str = OWN_SETS[0]
    hardware: str | None = None
    tag: bool = False


@dataclass(frozen=True)
class Candidate:
    """A bundle and its provenance.

    Attributes:
        bundle: The bundle as it was exported.
        metrics: Metrics of ``evaluate_stack``, including its breakdowns.
        revision: Commit of the code that produced the bundle.
        lock: The sha256 of the bundle's dvc.lock.
    """

    bundle: Bundle
    metrics: dict[str, Any]
    revision: str | None
    lock: str | None


def promote(config: Config, options: Options) -> None:
    """Compare the candidate with the promoted bundle, and promote it if it is better.

    Raises:
        RefusedError: The candidate is not better; nothing has been changed.
        StageError: A file or a set is missing, or cannot be written.
        BundleError: A bundle is damaged.
    """
    recover(options.target)
    check_committed(options.target)
    if options.tag:
        check_committed(Path())
    with ExitStack() as stack:
        candidate = (
            from_workspace(config)
            if options.rev is None
            else from_revision(
                config, options.rev, Path(stack.enter_context(tempfile.TemporaryDirectory()))
            )
        )
        check(candidate.bundle)
        verdict = None
        if (options.target / bundle.MANIFEST).exists():
            promoted = Bundle.load(options.target)
            if promoted.contents == candidate.bundle.contents:
                raise RefusedError(f"{options.target}: already contains these networks")
            verdict = compare(config, promoted, candidate.bundle, options)
            print(gate.tabulate(verdict))
            if not verdict.passes:
                raise RefusedError("not promoted:\n- " + "\n- ".join(verdict.reasons))
        manifest = describe(candidate, verdict, options.hardware)
        files = dict(candidate.bundle.contents)
        files[bundle.MANIFEST] = bundle.manifest_text(manifest).encode()
        files[CARD] = card(manifest, candidate.metrics, name_of(candidate.bundle)).encode()
    write(files, options.target)
    print(f"Promoted {name_of(candidate.bundle)} to {options.target}.")
    register(options)


def check_committed(path: Path) -> None:
    """Check that Git can restore what is about to be replaced.

    Outside a Git repository, nothing is checked.

    Raises:
        StageError: There are uncommitted changes.
    """
    done = _git("status", "--porcelain", "--", str(path))
    if done.returncode == 0 and done.stdout.strip():
        what = "uncommitted changes" if path == Path() else f"{path}: has uncommitted changes"
        raise StageError(
            f"{what}:\n{done.stdout.rstrip()}\nCommit them, or undo them with "
            f"`git checkout -- {path}`."
        )


def from_workspace(config: Config) -> Candidate:
    """Load the exported bundle of the workspace.

    Raises:
        StageError: The bundle does not match dvc.lock, or has not been evaluated.
        BundleError: The bundle is missing or damaged.
    """
    exported = Bundle.load(config.out("models", "stack"))
    check_recorded()
    path = config.out("evaluations", "stack") / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(
            f"{path}: cannot be read: {error}. Run `dvc repro evaluate_stack` to write it."
        ) from error
    return Candidate(exported, metrics, git_revision(), dvc_lock())


def from_revision(config: Config, rev: str, folder: Path) -> Candidate:
    """Load the exported bundle of a revision, from DVC's cache or its remote.

    Args:
        config: Parameters of the pipeline, which determine the paths of the bundle and its metrics.
        rev: A commit, branch, tag or experiment.
        folder: Empty folder to write the bundle to.

    Raises:
        StageError: There is no such revision, or its bundle is neither in the cache nor in the remote.
        BundleError: The bundle is damaged.
    """
    place = folder / "stack"
    source = config.out("models", "stack").as_posix()
    try:
        with Repo() as repo:
            sha = resolve_rev(repo.scm, rev)
    except (DvcException, SCMError) as error:
        raise StageError(
            f"{rev!r} is not a revision or experiment known to Git or DVC: {error}"
        ) from error
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "get", ".", source, "--rev", sha, "--out", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StageError(
            f"{rev}: bundle not found in the DVC cache or a remote: {done.stderr.strip()}"
        )
    path = (config.out("evaluations", "stack") / "metrics.json").as_posix()
    try:
        metrics = json.loads(dvc.api.read(path, rev=sha))
        lock = dvc.api.read("dvc.lock", rev=sha, mode="rb")
    except (DvcException, OSError, ValueError) as error:
        raise StageError(f"{rev}: {path}: cannot be read: {error}") from error
    return Candidate(Bundle.load(place), metrics, sha, sha256(lock).hexdigest())


def check(candidate: Bundle) -> None:
    """Check that a bundle runs and is small enough.

    Raises:
        StageError: The bundle is too large.
    """
    size = _size(candidate)
    if size > LARGEST:
        raise StageError(f"{candidate.path}: has {size:,} bytes; at most {LARGEST:,} are allowed")
    # The result on a uniformly grey image does not matter, only that the bundle runs.
    PlateReader(candidate, "onnxruntime", 1).read(np.full((256, 256), 128, np.uint8))


def check_recorded() -> None:
    """Check that the bundle and its evaluation match dvc.lock.

    Missing prepared sets and models are ignored, as training may have run on another machine.

    Raises:
        StageError: The bundle or its evaluation does not match dvc.lock.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc status` failed: {done.stderr.strip()}")
    if changed := changed_files(json.loads(done.stdout.strip() or "{}")):
        raise StageError(
            f"differs from dvc.lock: {', '.join(changed)}. Run `dvc repro evaluate_stack`."
        )


def changed_files(status: dict[str, list[Any]]) -> list[str]:
    """Return the changes listed by ``dvc status --json``, without missing dependencies."""
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


def compare(config: Config, promoted: Bundle, candidate: Bundle, options: Options) -> gate.Verdict:
    """Compare the candidate with the promoted bundle on the same images.

    Raises:
        StageError: A set is missing, or there is no set with the name of the primary one.
    """
    sets = _sets(config, options.labels)
    if options.primary not in sets or options.primary == CLUTTER:
        choice = ", ".join(name for name in sets if name != CLUTTER)
        raise StageError(f"--primary {options.primary}: must be one of {choice}")
    tables: list[dict[str, pd.DataFrame]] = []
    readers = []
    for which, each in (("promoted", promoted), ("candidate", candidate)):
        reader = PlateReader(each, _runtime(promoted, candidate), available_cores())
        readers.append(reader)
        table = {}
        for name, truth in sets.items():
            scores = score(reader, truth, f"{name}, {which}")
            if name == CLUTTER:
                table[name] = gate.images_right(scores, reader.threshold)
            elif name == HIDDEN and isinstance(truth, PreparedAnnotations):
                labels = truth.samples.labels
                table[name] = gate.hidden_right(scores, labels, reader.threshold)
            elif name == COLOURS and isinstance(truth, PreparedAnnotations):
                table[name] = gate.colours_right(scores, truth.samples.labels)
            else:
                table[name] = gate.plates_right(scores)
        tables.append(table)
    images = [item.image for item in islice(sets[OWN_SETS[0]], _TIMED)]
    costs = {
        "size": (float(_size(promoted)), float(_size(candidate))),
        "latency": _latencies(readers, images),
    }
    return gate.judge(tables[0], tables[1], options.primary, costs)


def _sets(
    config: Config, labels: Sequence[Path]
) -> dict[str, PreparedAnnotations | AnnotationFile]:
    sets: dict[str, PreparedAnnotations | AnnotationFile] = {
        name: PreparedAnnotations(ShardedSet(config.prepared("stack") / name))
        for name in (*OWN_SETS, HIDDEN, CLUTTER, COLOURS)
    }
    for path in labels:
        truth = AnnotationFile(path)
        if path.stem in sets:
            raise StageError(
                f"--labels {path}: there is already a set named {path.stem}; rename the file"
            )
        if not truth.has_text:
            raise StageError(f"--labels {path}: has no column `plate`, which the comparison needs")
        sets[path.stem] = truth
    return sets


def _runtime(*bundles: Bundle) -> Any:
    return best_runtime(all(each.has_int8 for each in bundles))


def _size(each: Bundle) -> int:
    return sum(map(len, each.contents.values()))


def _latencies(
    readers: Sequence[PlateReader], images: Sequence[NDArray[np.uint8]]
) -> tuple[float, float]:
    """Return the median milliseconds per image of two readers, timed in turn under equal conditions."""
    times: list[list[float]] = [[] for _ in readers]
    for _ in range(_ROUNDS):
        for image in images:
            for reader, taken in zip(readers, times, strict=True):
                start = perf_counter()
                reader.read(image)
                taken.append(perf_counter() - start)
    first, second = (1000 * float(np.median(taken)) for taken in times)
    return first, second


def describe(candidate: Candidate, verdict: gate.Verdict | None, hardware: str | None) -> Manifest:
    """Return the manifest of the bundle to promote."""
    exported = candidate.bundle.manifest
    comparison = {} if verdict is None else {"promotion": verdict.to_dict()}
    return msgspec.structs.replace(
        exported,
        git_revision=candidate.revision,
        dvc_lock=candidate.lock,
        metrics={**exported.metrics, "evaluate_stack": _figures(candidate.metrics), **comparison},
        hardware=exported.hardware | ({"training": hardware} if hardware else {}),
    )


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics without their breakdowns."""
    return {
        name: _figures(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not name.startswith("by_")
    }


def name_of(each: Bundle) -> str:
    """Return the name of a bundle, which is derived from the contents of its networks."""
    content = b"".join(each.contents[name] for name in sorted(each.contents))
    return f"bundle {sha256(content).hexdigest()[:12]}"


def write(files: Mapping[str, bytes], target: Path) -> None:
    """Replace the promoted bundle, and keep the other files in its folder.

    The new folder is written next to the old one, checked, and then renamed, so that an incomplete
    bundle is never visible.

    Raises:
        StageError: The bundle cannot be written; the old one is unchanged.
    """
    partial_, replaced = _beside(target)
    ours = {*bundle.NAMES, CARD}
    shutil.rmtree(partial_, ignore_errors=True)
    try:
        partial_.mkdir(parents=True)
        if target.exists():
            for path in target.iterdir():
                if path.name not in ours:
                    copy = shutil.copytree if path.is_dir() else shutil.copy2
                    copy(path, partial_ / path.name)
        for name, content in files.items():
            with (partial_ / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        Bundle.load(partial_)
        shutil.rmtree(replaced, ignore_errors=True)
        if target.exists():
            target.rename(replaced)
        partial_.rename(target)
    except OSError as error:
        recover(target)
        raise StageError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial_, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(target: Path) -> None:
    """Put the old bundle back if a promotion was killed between its two renames."""
    _, replaced = _beside(target)
    if replaced.exists() and not target.exists():
        replaced.rename(target)


def _beside(target: Path) -> tuple[Path, Path]:
    """Return the temporary folders of the new bundle and of the old one while they are swapped."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")


def register(options: Options) -> None:
    """Commit and tag the promoted bundle, or print the commands for it."""
    gto = str(Path(sys.executable).with_name("gto"))
    commands = [
        ["git", "add", "--", str(options.target)],
        ["git", "commit", "--quiet", "-m", "Promote a bundle", "--", str(options.target)],
        [gto, "register", ARTIFACT],
        [gto, "assign", ARTIFACT, "--stage", STAGE],
    ]
    shown = [shlex.join([Path(command[0]).name, *command[1:]]) for command in commands]
    if not options.tag:
        print("Commit the bundle together with dvc.lock, then register it:")
        for line in shown[2:]:
            print(f"  {line}")
        return
    for number, command in enumerate(commands):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            left = "".join(f"\n  {line}" for line in shown[number:])
            raise StageError(
                f"{options.target} is written, but `{' '.join(command)}` failed: {done.stderr.strip()}\n"
                f"Remaining commands:{left}"
            )
        print(done.stdout, end="")


def restore(target: Path) -> None:
    """Restore the previously promoted bundle from the Git history.

    Raises:
        StageError: There is no earlier bundle.
    """
    recover(target)
    check_committed(target)
    manifest = f"{target.as_posix()}/{bundle.MANIFEST}"
    now = Bundle.load(target).contents if (target / bundle.MANIFEST).exists() else {}
    log = _git("log", "--format=%H", "--", manifest)
    for commit in log.stdout.split():
        files = _committed(commit, target)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            try:
                contents = Bundle.load(folder).contents
            except BundleError:
                # It belongs to another version of this program, or was removed by this commit.
                continue
        if contents != now:
            write(files, target)
            print(
                f"Restored the bundle of {commit[:12]} to {target}. Commit it. If it is registered "
                f"(`gto show {ARTIFACT}`), also assign it:\n"
                f"  gto assign {ARTIFACT} --version VERSION --stage {STAGE}"
            )
            return
    raise StageError(f"{target}: the Git history has no other bundle that this version can use")


def _committed(commit: str, target: Path) -> dict[str, bytes]:
    """Return the files of a bundle as of a commit, by name."""
    names = _git("ls-tree", "--name-only", commit, f"{target.as_posix()}/").stdout.split()
    return {
        Path(name).name: subprocess.run(
            ["git", "show", f"{commit}:{name}"], capture_output=True, check=True
        ).stdout
        for name in names
    }


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("promote"),
        description="Promote the exported bundle to models if it is better than the promoted one.",
    )
    parser.add_argument("--rev", help="revision whose bundle is promoted (default: the workspace)")
    parser.add_argument(
        "--labels", type=Path, action="append", default=[], metavar="CSV",
        help="annotation file of an additional set, which is named after the file; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--primary", default=OWN_SETS[0], metavar="SET",
        help="set on which the candidate must be better (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--hardware", metavar="TEXT", help="hardware used for training, recorded in the manifest"
    )
    parser.add_argument("--tag", action="store_true", help="commit the bundle and tag it with gto")
    parser.add_argument(
        "--restore", action="store_true", help="restore the previously promoted bundle instead"
    )
    return parser.parse_args(arguments)


def main(options: argparse.Namespace, config: Config) -> None:
    """Promote or restore a bundle, as the command-line options say."""
    if options.restore:
        restore(Options.target)
        return
    promote(
        config,
        Options(
            rev=options.rev,
            labels=options.labels,
            primary=options.primary,
            hardware=options.hardware,
            tag=options.tag,
        ),
    )


def command(arguments: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: The bundle is not promoted; the reason has been printed.
    """
    run_stage(partial(main, parse(arguments)))
