"""Dockerfiles, .dockerignore and deployment files, as far as the tests have to understand them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
MANIFESTS = sorted((ROOT / "kubernetes").glob("*.yml"))
COMPOSE = ROOT / "docker-compose.yml"
CLOUD_RUN = ROOT / "docker" / "cloud-run.yml"
CLOUD_RUN_DASHBOARD = ROOT / "docker" / "cloud-run-dashboard.yml"


@dataclass
class Stage:
    """A stage of a Dockerfile.

    Attributes:
        base: the image or the stage that it starts from.
        name: by which others copy from it; empty for none.
        steps: its instructions, in order: the keyword, and the rest as it is written.
    """

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for key, rest in self.steps if key == keyword]

    def last(self, keyword: str) -> str:
        return self.all(keyword)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [word for rest in self.all("ENV") for word in shlex.split(rest)]
        return dict(pair.split("=", 1) for pair in pairs)

    def command(self, keyword: str) -> list[str]:
        """The words of an instruction in exec form; options before them are left out.

        Raises:
            json.JSONDecodeError: it has the shell's form.
        """
        return json.loads(re.sub(r"^[^\[]*?(?=\[)", "", self.last(keyword)))


@dataclass(frozen=True)
class Copy:
    """What a COPY copies: ``sources`` from the context, or from the stage ``origin``, to ``target``."""

    origin: str
    sources: list[str]
    target: str

    @classmethod
    def parse(cls, rest: str) -> Copy:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        return cls(options.get("from", ""), sources, target)


def stages(dockerfile: Path) -> list[Stage]:
    """The stages of a Dockerfile, from the first to the one that is the image."""
    lines = [line for line in dockerfile.read_text("utf-8").splitlines() if line.strip()]
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            base, *name = re.split(r"\s+AS\s+", rest)
            found.append(Stage(base.strip(), name[0].strip() if name else ""))
        else:
            found[-1].steps.append((keyword, rest.strip()))
    return found


def image(name: str) -> Stage:
    """The last stage of ``docker/NAME.Dockerfile``."""
    return stages(ROOT / "docker" / f"{name}.Dockerfile")[-1]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the context: the last line that fits it counts."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!").strip("/")
        if not pattern or pattern.startswith("#"):
            continue
        parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        fits = "".join(signs.get(part, re.escape(part)) for part in parts)
        if re.fullmatch(f"{fits}(?:/.*)?", path):
            ignored = not line.startswith("!")
    return ignored


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def deployment(name: str) -> dict[str, Any]:
    """The Deployment of ``kubernetes/NAME.yml``."""
    found = documents(ROOT / "kubernetes" / f"{name}.yml")
    return next(document for document in found if document["kind"] == "Deployment")


def pod(name: str) -> dict[str, Any]:
    """The specification of its pods."""
    return deployment(name)["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    """The one container of its pods."""
    (only,) = pod(name)["containers"]
    return only


def compose_service(name: str) -> dict[str, Any]:
    """A service of docker-compose.yml, as it is written."""
    return documents(COMPOSE)[0]["services"][name]


def environment(of: dict[str, Any]) -> dict[str, str]:
    """The variables of a container that have a value in the file itself."""
    return {item["name"]: item["value"] for item in of.get("env", []) if "value" in item}


def seconds(time: str) -> float:
    """A time as Compose spells it: 30s, 1h."""
    parts = re.findall(r"(\d+)([hms])", time)
    assert "".join(number + unit for number, unit in parts) == time, time
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def shell_lines(page: Path) -> list[str]:
    """The commands of a page's shell blocks, a line each; continued lines are joined."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in text.splitlines()]
