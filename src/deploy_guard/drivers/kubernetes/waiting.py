"""Wait until everything is healthy, or something is doomed: told by watches, not by asking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import lastwords
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import Dwells
from deploy_guard.drivers.kubernetes.doom import Charge, charges
from deploy_guard.drivers.kubernetes.health import Health, Starts, health, moment, unsettled
from deploy_guard.drivers.kubernetes.objects import Object, Ref
from deploy_guard.drivers.kubernetes.telling import Telling
from deploy_guard.drivers.kubernetes.trial import PATIENCE, Trial
from deploy_guard.drivers.kubernetes.unblocking import blocking, unblock
from deploy_guard.drivers.kubernetes.views import View, World, is_waited, name_of, needs, uid
from deploy_guard.drivers.kubernetes.watching import Alive, Broken, Changed, Listed, Told, Watching
from deploy_guard.errors import DeployGuardError, RolloutDoomed

_TICK = 1.0
"""Seconds between two lines of progress."""
_MANY, _TOGETHER = 20, 0.1
"""From so many objects on, what happens within so many seconds is looked at together."""
_FRESH = 1.0
"""Seconds for which a state that was told needs no second look."""
_QUOTED = 3
"""Objects whose pods are quoted when a wait fails; others are named."""


def wait(
    api: Api,
    refs: Sequence[Ref],
    deadline: Deadline,
    dwell: Dwells,
    progress: Callable[[str], None],
    *,
    unblocks: bool = False,
) -> None:
    """Return when all objects are healthy at their generation.

    Kinds that can't fail later (ConfigMaps, Services, volume claims, CronJobs and others) are not waited for.

    :param dwell: how long a failure must stand before it counts.
    :param progress: gets a line for people about once a second.
    :param unblocks: delete broken pods of a release that was taken back where StatefulSets wait for them for ever.
    :raises RolloutDoomed: as soon as one can't become healthy, and at the deadline: with the pods, their events and the
        end of their logs.
    """
    waited = [ref for ref in dict.fromkeys(refs) if is_waited(ref.key)]
    if waited:
        _Wait(api, waited, deadline, dwell, progress, unblocks=unblocks).run()


def wait_for_end(api: Api, job: Ref, deadline: Deadline, dwell: Dwells, progress: Callable[[str], None]) -> None:
    """Return when a Job has completed, also one that is suspended at first; raises as :func:`wait`."""
    _Wait(api, [job], deadline, dwell, progress, to_end=True).run()


class _Wait:
    def __init__(
        self,
        api: Api,
        refs: Sequence[Ref],
        deadline: Deadline,
        dwell: Dwells,
        progress: Callable[[str], None],
        *,
        to_end: bool = False,
        unblocks: bool = False,
    ) -> None:
        self._api = api
        self._refs = refs
        self._deadline = deadline
        self._settle = dwell.settle
        self._to_end = to_end
        self._unblocks = unblocks
        self._unblocked: set[str] = set()
        self._world = World()
        self._trial = Trial(api, dwell)
        self._telling = Telling(progress)
        self._starts = Starts(time.monotonic, None)
        self._listed: set[str] = set()
        self._refused: dict[str, ApiError] = {}
        self._broken: dict[str, DeployGuardError] = {}
        self._done: set[Ref] = set()
        self._since: dict[Ref, float] = {}
        self._states: dict[Ref, tuple[Health | None, bool]] = dict.fromkeys(refs, (None, False))
        self._wakes: dict[Ref, float] = dict.fromkeys(refs, 0.0)
        self._concerned: dict[str, set[Ref]] = {}

    def run(self) -> None:
        self._starts = Starts(time.monotonic, _server_time(self._api))
        with Watching(self._api, self._paths()) as watching:
            while not self._deadline.expired:
                wake = min(self._wakes.values()) - time.monotonic()
                news = watching.news(min(_TICK, wake, self._deadline.remaining))
                if len(self._refs) > _MANY and news:
                    time.sleep(_TOGETHER)
                    news = [*news, *watching.news(0)]
                for told in news:
                    self._take(told)
                if self._look():
                    return
            self._last_look()

    def _paths(self) -> dict[str, dict[str, str]]:
        """Return the collections to watch; one of which only one object matters is narrowed to that."""
        names: dict[str, list[str]] = {}
        for ref in self._refs:
            names.setdefault(ref.collection, []).append(ref.key.name)
        paths = {
            path: {"fieldSelector": f"metadata.name={those[0]}"} if len(those) == 1 else {}
            for path, those in names.items()
        }
        for ref in self._refs:
            for path in needs(ref):
                paths[path] = {}  # pods may be waited for themselves, and belong to others
        return paths

    # What the watches tell

    def _take(self, told: Told) -> None:
        if isinstance(told, Broken):
            self._take_error(told.path, told.error)
            return
        self._broken.pop(told.path, None)
        self._telling.back()
        if isinstance(told, Listed):
            self._listed.add(told.path)
            self._refused.pop(told.path, None)
            self._world.listed(told.path, told.items)
            self._wakes = dict.fromkeys(self._refs, 0.0)
        elif isinstance(told, Changed):
            self._world.changed(told.path, told.change, told.body)
        else:
            assert isinstance(told, Alive)

    def _take_error(self, path: str, error: DeployGuardError) -> None:
        if not isinstance(error, ApiError) or error.status != 403 or path in self._listed:
            if path not in self._broken:
                self._telling.away(error.what)
            self._broken[path] = error
        elif path not in self._refused:
            self._refused[path] = error  # just started, an API server may refuse what it grants a moment later
        elif any(path == ref.collection for ref in self._refs):
            raise RolloutDoomed(
                f"{path} can't be watched: {error.what}", hint="grant list and watch, as the Role in the documentation"
            ) from error
        else:
            self._world.denied(path)
            self._wakes = dict.fromkeys(self._refs, 0.0)
            print(f"{path.rpartition('/')[2]} can't be read, so that failures are seen later: {error.what}")

    # Judging

    def _look(self) -> bool:
        """Judge what changed and what is due; returns True when all are healthy, raises when something is doomed."""
        now = time.monotonic()
        due = {ref for ref, wake in self._wakes.items() if wake <= now}
        due.update(ref for what in self._world.touched() for ref in self._concerned.get(what, ()))
        proven = [(view, charge) for ref in due for view, charge in self._look_at(ref, now)]
        self._telling.line(self._states)
        if confirmed := [pair for pair in proven if self._confirms(*pair)]:
            raise self._doomed(confirmed)
        return all(healthy for _, healthy in self._states.values())

    def _look_at(self, ref: Ref, now: float) -> list[tuple[View, Charge]]:
        """Judge an object; returns what is proven against it."""
        self._wakes[ref] = now + _TICK
        if not self._world.knows(ref):
            return []
        view = self._world.view(ref)
        for what in (name_of(ref.collection, ref.key.name), *view.events):
            self._concerned.setdefault(what, set()).add(ref)
        found = health(view, to_end=self._to_end)
        healthy = self._is_healthy(view, found, now)
        self._states[ref] = found, healthy
        self._telling.state(ref, found, healthy=healthy)
        if healthy:
            self._wakes[ref] = float("inf")  # until something happens to it
            return []
        if self._unblocks:
            unblock(self._api, view, self._unblocked)
        charge = self._judge(view, now)
        return [(view, charge)] if charge is not None else []

    def _is_healthy(self, view: View, found: Health, now: float) -> bool:
        if not found.healthy:
            self._since.pop(view.ref, None)
            # A Job that is removed as soon as it has completed (ttlSecondsAfterFinished) has completed.
            return view.body is None and view.ref in self._done
        if view.kind == "Job":
            self._done.add(view.ref)
        since = self._since.setdefault(view.ref, now)
        in_sight = since + self._settle - now  # all that can be asked for where pods may not be read
        rest = in_sight if view.blind else unsettled(view, found, self._starts.age, self._settle)
        self._wakes[view.ref] = min(self._wakes[view.ref], now + max(rest, 0.0))
        return rest <= 0

    def _judge(self, view: View, now: float) -> Charge | None:
        """Return what is proven against an object, if anything."""
        found = charges(view, self._starts.age)
        for fault in self._trial.heard(view.ref, found):
            self._telling.fault(view.ref, fault, self._trial.dwell(fault))
        for charge in found:
            if self._trial.is_proven(view.ref, charge):
                return charge
            self._wakes[view.ref] = min(self._wakes[view.ref], max(self._trial.due(view.ref, charge), now))
        return None

    def _confirms(self, view: View, charge: Charge) -> bool:
        """Look again at what was told long ago: the watch may hang, or the API server be away."""
        ref = view.ref
        if time.monotonic() - self._trial.stands_since(ref, charge) < _FRESH:
            return True
        pods = next(iter(needs(ref)), "")
        names = dict.fromkeys(fault.pod for fault in charge.faults if fault.pod)
        for path in (ref.path, *(f"{pods}/{name}" for name in names)):
            try:
                self._refresh(path)
            except Unreachable as error:
                self._telling.away(error.what)
                self._wakes[ref] = time.monotonic() + PATIENCE
                return False
        keys = {fault.key for fault in charge.faults}
        now = charges(self._world.view(ref), self._starts.age)
        return any(keys == {fault.key for fault in one.faults} for one in now)

    def _refresh(self, path: str) -> None:
        collection, _, name = path.rpartition("/")
        try:
            self._world.changed(collection, "MODIFIED", self._api.request("GET", path, patience=PATIENCE))
        except ApiError as error:
            if error.status == 404:
                self._world.gone(collection, name)

    # The ends

    def _last_look(self) -> None:
        """At the deadline, list everything once: returns when all is healthy after all.

        :raises RolloutDoomed: when it is not.
        """
        limit = Deadline.after(PATIENCE)
        for path, query in self._paths().items():
            try:
                page = self._api.request("GET", path, query=query, patience=max(limit.remaining, 0.2))
            except Unreachable as error:
                raise self._late(error) from error
            except ApiError:
                continue  # said before
            self._world.listed(path, page.get("items") or ())
        self._wakes = dict.fromkeys(self._refs, 0.0)
        if not self._look():
            raise self._late(None)

    def _doomed(self, proven: Sequence[tuple[View, Charge]]) -> RolloutDoomed:
        heads, words, limit = [], [], Deadline.after(lastwords.PATIENCE)
        for number, (view, charge) in enumerate(proven):
            worst = [min(group, key=self._trial.dwell) for group in charge.groups]
            alike = f" (and {len(worst) - 1} more of its pods)" if len(worst) > 1 else ""
            verdict = "failed" if view.kind == "Job" else "can't become healthy"
            heads.append(f"{view.ref} {verdict}: {worst[0]}{alike}")
            if number < _QUOTED:
                words += lastwords.last_words(self._api, view, limit, [fault.pod for fault in worst if fault.pod])
        doomed = {view.ref for view, _ in proven}
        rest = [
            f"{ref}: {found.why if found else 'not seen yet'}"
            for ref, (found, healthy) in self._states.items()
            if not healthy and ref not in doomed
        ]
        besides = [f"not healthy yet besides: {'; '.join(rest)}"] if rest else []
        return RolloutDoomed("\n".join([*heads, *words, *besides]), hint=proven[0][1].faults[0].hint)

    def _late(self, away: Unreachable | None) -> RolloutDoomed:
        """Say what is not healthy at the deadline, and why."""
        heads, words, limit = [], [], Deadline.after(lastwords.PATIENCE)
        for ref in self._refs:
            if not self._world.knows(ref):
                errors = [
                    str(self._broken[path].what) for path in (ref.collection, *needs(ref)) if path in self._broken
                ]
                heads.append(f"{ref} could not be looked at" + (f": {errors[0]}" if errors else ""))
                continue
            view = self._world.view(ref)
            found = health(view, to_end=self._to_end)
            if self._is_healthy(view, found, time.monotonic()):
                continue
            why = found.why or "its pods have not been running for long enough"
            if blocked := [str(pod["metadata"]["name"]) for pod in blocking(view)]:
                why += f"; it waits until its old pod {blocked[0]} is ready: kubectl delete pod {blocked[0]}"
            for pod in lastwords.chosen(view)[:1]:
                why += f"; pod {pod['metadata']['name']}: {lastwords.obstacle(pod, view.events.get(uid(pod), ()))}"
            heads.append(f"{ref}: {why}")
            if len(heads) <= _QUOTED and away is None:
                words += lastwords.last_words(self._api, view, limit)
        after = f"not {'finished' if self._to_end else 'healthy'} after {self._deadline.limit:g} s"
        if away is not None:
            what = f"{after}, and the API server does not answer: {away.what}"
            return RolloutDoomed("\n".join([what, *(f"last known: {head}" for head in heads)]), hint=away.hint)
        hint = "mend what is told above; where it only takes longer, raise the timeout"
        if self._to_end:
            hint = "it is left as it is, and may still be running; where it only takes longer, raise the timeout"
        return RolloutDoomed("\n".join([f"{after}: {'; '.join(heads)}", *words]), hint=hint)


def _server_time(api: Api) -> float:
    """Return the API server's time; where it can't be asked, that of this machine."""
    body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, patience=PATIENCE)
        told = moment((answer.get("metadata") or {}).get("creationTimestamp"))
    except DeployGuardError:  # a server before 1.28, or one that is away
        told = None
    return time.time() if told is None else told
