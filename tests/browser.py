"""Chromium for tests and screenshots."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploy_guard.flow.model import Outcome

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = 1280, 390


def program() -> str | None:
    """Chromium's path: what DEPLOY_GUARD_TEST_BROWSER says, or what is found."""
    named = os.environ.get("DEPLOY_GUARD_TEST_BROWSER")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def screenshots(folder: Path) -> None:
    """Write a picture of each outcome's page: wide and narrow, light and dark."""
    import samples

    path = program()
    if path is None:
        sys.exit("no Chromium was found: install it, or name one with DEPLOY_GUARD_TEST_BROWSER")
    folder.mkdir(parents=True, exist_ok=True)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    with chromium(path) as browser:
        for scheme in schemes:
            for width in (WIDE, PHONE):
                options: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
                page = browser.new_page(**options)
                for outcome in Outcome:
                    page.set_content(samples.page_of(outcome))
                    page.screenshot(path=folder / f"{outcome}-{width}-{scheme}.png", full_page=True)
                page.close()


if __name__ == "__main__":
    screenshots(Path(sys.argv[1]))
