"""Pages of the dashboard, run without a browser."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

PAGES = ("try_image", "review", "events", "quality", "model", "operation")


def opened(name: str) -> AppTest:
    """A page in a new session, as a browser that was just opened shows it."""
    return shown(_run(name))


def failure(name: str) -> str:
    """What a page says that cannot be shown."""
    return str(_run(name).exception[0].message)


def _run(name: str) -> AppTest:
    script = f"from src.dashboard import {name}\n{name}.show()"
    return AppTest.from_string(script, default_timeout=60).run()


def shown(page: AppTest) -> AppTest:
    """The same page, in which nothing went wrong."""
    assert not page.exception, page.exception[0].stack_trace
    return page


def press(page: AppTest, label: str) -> AppTest:
    """Press the button with a label."""
    (button,) = [each for each in page.button if each.label == label]
    assert not button.disabled, f"{label} cannot be pressed"
    return shown(button.click().run())


def texts(page: AppTest) -> str:
    """All that a page says."""
    kinds = (page.title, page.header, page.subheader, page.markdown, page.caption, page.info,
             page.success, page.warning, page.error)  # fmt: skip
    return "\n".join(str(each.value) for kind in kinds for each in kind)
