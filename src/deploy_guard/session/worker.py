"""An xdist worker of a release session: runs gates, and never anything that follows them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from deploy_guard.flow.model import Mode
from deploy_guard.session.gates import SPEC
from deploy_guard.session.marking import DATA, Marking
from deploy_guard.session.results import is_blocking, is_post_check


class Worker(Marking):
    """Reads marks as the controller does; blocking gates and post-checks are left to the controller."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Drop what the controller runs before and after all this."""
        self._specify(items)
        result = yield
        items[:] = [item for item in items if SPEC in item.stash and not is_post_check(item) and not is_blocking(item)]
        if self.run.mode is Mode.BACK:
            items.clear()
        self._settle(items)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the controller when a test forked this worker."""
        self.end_copies()
        self.await_copies()
        output: dict[str, object] = session.config.workeroutput  # type: ignore[attr-defined]  # xdist puts it there
        output[DATA] = self.run.board.escaped
