"""URLs and options become sinks, or errors that say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.errors import UserError
from src.sinks import options as names
from src.sinks.mqtt import Mqtt
from src.sinks.options import OPTIONS, SinkOptions, load_options
from src.sinks.table import EventTable
from src.sinks.targets import open_sinks
from src.sinks.webhook import Webhook
from src.video.settings import SettingsError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (names.SECRET, names.USER, names.PASSWORD):
        monkeypatch.delenv(name, raising=False)


def test_each_url_is_a_sink_whose_name_holds_no_secret(tmp_path: Path) -> None:
    urls = (
        "https://u:hunter2@hooks.example/hunter2?key=hunter2",
        "http://127.0.0.1:8123/api/webhook/hunter2",
        "mqtt://u:hunter2@broker.example/house/plates?discovery=homeassistant",
        "mqtts://broker.example:8884",
        f"sqlite:///{tmp_path}/events.db",
        "postgresql://u:hunter2@db.example/plates",
    )
    sinks = open_sinks(SinkOptions(to=urls, keep_days=3), ["gate"])
    assert [type(sink) for sink in sinks] == [
        Webhook, Webhook, Mqtt, Mqtt, EventTable, EventTable,
    ]  # fmt: skip
    assert [sink.name for sink in sinks] == [
        "https://hooks.example/…",
        "http://127.0.0.1:8123/…",
        "mqtt://broker.example/house/plates",
        "mqtts://broker.example:8884/swiss-plates",
        f"{tmp_path}/events.db",
        "postgresql://db.example/plates",
    ]
    assert len({sink.key for sink in sinks}) == len(sinks)
    assert all("hunter2" not in sink.key for sink in sinks)
    broker = sinks[2]._broker  # type: ignore[attr-defined]
    assert (broker.host, broker.port, broker.is_secure) == ("broker.example", 1883, False)
    assert (broker.user, broker.password) == ("u", "hunter2")
    assert (sinks[2]._prefix, sinks[3]._prefix) == ("homeassistant", None)  # type: ignore[attr-defined]
    secure = sinks[3]._broker  # type: ignore[attr-defined]
    assert (secure.port, secure.is_secure, secure.user) == (8884, True, None)


def test_a_sink_is_the_same_with_another_password() -> None:
    def key(url: str) -> str:
        return open_sinks(SinkOptions(to=(url,)), [])[0].key

    assert key("https://u:old@HOST/a") == key("https://u:new@host/a") != key("https://host/b")


def test_webhooks_of_one_host_are_told_apart_by_their_place() -> None:
    urls = ("https://host/secret1", "https://host/secret2")
    sinks = open_sinks(SinkOptions(to=urls), [])
    assert [sink.name for sink in sinks] == [
        "https://host/… (--to number 1)",
        "https://host/… (--to number 2)",
    ]


def test_secrets_come_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def secret(**options: str) -> object:
        (sink,) = open_sinks(SinkOptions(to=("https://host/",), **options), [])  # type: ignore[arg-type]
        return sink._secret  # type: ignore[attr-defined]

    assert secret() is None
    monkeypatch.setenv(names.SECRET, "of the environment")
    assert secret() == b"of the environment"
    (tmp_path / "secret").write_text("of the file\n")
    assert secret(secret_file=str(tmp_path / "secret")) == b"of the file"
    monkeypatch.setenv(names.USER, "guard")
    monkeypatch.setenv(names.PASSWORD, "p@ss")
    (sink,) = open_sinks(SinkOptions(to=("mqtt://u:old@host/",)), [])
    broker = sink._broker  # type: ignore[attr-defined]
    assert (broker.user, broker.password) == ("guard", "p@ss")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "no kind of sink; use https://HOST"),
        ("host/path", "no kind of sink"),
        ("amqp://host/", "amqp is no kind of sink"),
        ("https:///path", "names no host"),
        ("https://host:port/", "is invalid"),
        ("https://[::1/", "is invalid"),
        ("mqtt://host/a/#", "none of the characters"),
        ("mqtt://host/a/+", "none of the characters"),
        ("mqtt://host/a?retain=1", "the only option is"),
        ("mqtt://host/a?discovery=", "the only option is"),
        ("mysql://host/a", "mysql is no kind of sink"),
        ("sqlite://", "--to: the SQLite URL must name a file"),
    ],
)
def test_wrong_urls_are_explained(url: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        open_sinks(SinkOptions(to=(url,), keep_days=1), [])


def test_other_wrong_options_are_explained(tmp_path: Path) -> None:
    database, none = f"sqlite:///{tmp_path}/events.db", str(tmp_path / "none")
    for options, what in (
        (SinkOptions(to=(database,)), "need a retention period: give --keep-days"),
        (SinkOptions(to=("https://h/", "https://h/")), r"https://h/… is given twice"),
        (SinkOptions(to=("https://h/",), secret_file=none), "none: cannot be read as a secret"),
        (SinkOptions(to=("https://h/",), ca_file=none), "none: cannot be used as certificates"),
    ):
        with pytest.raises(UserError, match=what):
            open_sinks(options, [])


def test_a_file_and_the_command_line_are_taken_together(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(
        'to = ["https://a/", "sqlite:///x.db"]\nkeep_days = 30\nwith_images = true\noutbox = "o.db"\n'
        '[gate]\nsource = "a"\n[to2]\nsource = "b"\n'
    )
    found = load_options(path, {"to": ["mqtt://b/"], "keep_days": 7.0})
    assert found == SinkOptions(
        to=("https://a/", "sqlite:///x.db", "mqtt://b/"),
        keep_days=7,
        with_images=True,
        outbox="o.db",
    )
    assert load_options(None, {}) == SinkOptions()
    assert set(OPTIONS) >= {"to", "outbox", "watch_list"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('to = "https://a/"', r"cameras\.toml: .*`\$\.to`"),
        ("keep_days = 0", r"cameras\.toml: .*keep_days"),
        ("min_match = 2", r"cameras\.toml: .*min_match"),
    ],
)
def test_wrong_options_of_a_file_are_explained(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=what):
        load_options(path, {})


def test_wrong_options_of_the_command_line_are_explained() -> None:
    with pytest.raises(SettingsError, match="`--keep-days`"):
        load_options(None, {"keep_days": -1.0})
