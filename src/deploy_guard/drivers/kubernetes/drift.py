"""What others changed since the last release, told apart from what this release changes."""

from __future__ import annotations

from dataclasses import dataclass

from deploy_guard.drivers.kubernetes import compare, owners
from deploy_guard.drivers.kubernetes.compare import ABSENT
from deploy_guard.drivers.kubernetes.objects import Key, Object
from deploy_guard.drivers.kubernetes.records import Entry

_SHOWN = 20


@dataclass(frozen=True)
class Drift:
    """One field that is not what the last release set; without a path, the whole object.

    :param now: what it is; ``ABSENT`` where it is gone.
    :param was: what the last release set.
    """

    key: Key
    path: compare.Path
    now: object
    was: object
    by: str = ""
    hidden: bool = False

    def said(self, after: Object | None) -> str:
        """Return a line that says so, and what this release makes of it.

        :param after: the object after this release; None where it has none of it.
        """
        by = f" (by {self.by})" if self.by else ""
        if not self.path:
            then = "this release creates it again" if after is not None else "this release has none of it"
            return f"{self.key} was {self.now} since the last release{by}; {then}"
        where = f"{self.key} {compare.shown(self.path)}"
        if self.hidden:
            how = "is gone" if self.now is ABSENT else "was changed since the last release"
            return f"{where} {how}{by}"
        now = "is gone" if self.now is ABSENT else f"is {compare.value_shown(self.now)}"
        text = f"{where} {now}{by}, the last release set {compare.value_shown(self.was)}"
        return f"{text}; {self._then(after)}" if after is not None else text

    def _then(self, after: Object) -> str:
        then = compare.get(after, self.path, ABSENT)
        if then == self.now:
            return "this release leaves it so"
        if then == self.was:
            return "this release sets it back"
        return "this release removes it" if then is ABSENT else f"this release sets {compare.value_shown(then)}"


def of(entry: Entry, live: Object | None) -> list[Drift]:
    """Compare an object of the last release with what is there now."""
    key = entry.ref.key
    if live is None:
        return [Drift(key, (), "deleted", None)]
    if entry.uid and live["metadata"].get("uid") != entry.uid:
        return [Drift(key, (), "deleted, and made again,", None, _maker(live))]
    found = []
    mine = owners.fields(owners.ours(live)) if key.kind == "Secret" else set()
    for path, was in compare.leaves(entry.applied).items():
        now = compare.get(live, path, ABSENT)
        if compare.secret(entry.applied, path):
            # The values are not recorded: who changes one becomes its owner.
            if now is ABSENT or owners.field(path) not in mine:
                found.append(Drift(key, path, now, was, _by(live, path, now), hidden=True))
        elif now != was and path != ("apiVersion",):
            found.append(Drift(key, path, now, was, _by(live, path, now)))
    return found


def few(lines: list[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"… and {more} more"]


def _by(live: Object, path: compare.Path, now: object) -> str:
    return owners.owner(live, path) if now is not ABSENT else ""


def _maker(live: Object) -> str:
    return ", ".join(dict.fromkeys(str(one["manager"]) for one in owners.entries(live) if not one.get("subresource")))
