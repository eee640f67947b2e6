"""The connection to the API server: requests over the private socket of ``kubectl proxy``, tried again where it helps.

What is tried again, until the patience of the request is over: what the server refused for now (429, 503), what did not
reach it (kubectl's proxy then answers 500 in plain text), and, where nobody knows whether the server did it (it went
away in the middle, kubectl died), only what may be done twice:

- GET, DELETE, a server-side apply, a merge patch, a dry run, a question (``…Review``);
- a PUT that is bound to a resourceVersion, and a JSON patch that begins with a test. If the first try was done after
  all, the second is refused (409; 422 for a JSON patch): look at the object again, as after any conflict;
- a POST of an object that has a name. If the second try is answered AlreadyExists, and the object there holds all that
  was sent, it is ours, and is the answer; one that differs is somebody else's, and the error stands;
- a DELETE whose second try is answered 404 has deleted.

Anything else (``generateName``, a PUT that is bound to nothing) ends with ``Unreachable`` when its outcome is unknown.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import answers, diagnosis
from deploy_guard.drivers.kubernetes.answers import Again, Call, Tries
from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import IN_CLUSTER
from deploy_guard.drivers.kubernetes.line import Ending, Line
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.target import Target, private_path
from deploy_guard.drivers.unixhttp import Lost, NotSent, Pool, Response
from deploy_guard.errors import CommandFailed, DeployGuardError
from deploy_guard.printable import one_line
from deploy_guard.retry import retrying

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 60.0
"""Seconds that a request waits for an API server that is away, unless it says otherwise."""
OPENING = 15.0
"""The same until a new connection has its first answer."""
SIDE_BY_SIDE = 8
"""Threads of :meth:`Connection.each`: 500 objects took 0.76 s with one and 0.37 s with eight."""
_PAGE = "500"
_TRY = 40.0
"""Seconds for one try; the API server itself gives up after 34, and a webhook has at most 30."""
_TRIES = 10_000
_FIRST, _LONGEST = 0.1, 1.0
"""Seconds between two tries: at first, and at most."""
_ENDED, _CUT = 2.0, 0.3
"""Seconds to wait for the news that kubectl ended: when its socket is gone, and when a connection was cut."""


class Connection:
    """Asks the API server of one target; safe for several threads. Implements ``api.Api``; made by :meth:`open`."""

    def __init__(self, target: Target, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        if target.context == IN_CLUSTER and target.kubeconfig is None:
            target = replace(target, kubeconfig=private_path(environ))
        self.target = target
        self._environ = dict(environ)
        self._say = say
        self._address: str | None = None
        self._warned: set[str] = set()
        self._asking = threading.Lock()  # for both: many requests may fail at once
        self._line = Line(target, self._environ, say)
        self._finalizer = weakref.finalize(self, self._line.close)  # when nobody knows it any longer, and at exit

    @classmethod
    def open(
        cls,
        target: Target,
        environ: Mapping[str, str],
        *,
        patience: float = OPENING,
        say: Callable[[str], None] = print,
    ) -> Connection:
        """Start kubectl, and ask the API server once.

        :param environ: the environment of the run: kubectl is found on its PATH, and gets it.
        :param patience: seconds for all of it.
        :param say: gets a line for people when kubectl died and was started again, and the API server's warnings,
            each once.
        :raises CommandFailed: when kubectl is missing or too old, or refuses: an unknown context, a broken kubeconfig.
        :raises Unreachable: when the API server does not answer.
        :raises ApiError: when it does not take the credentials (401).
        """
        if shutil.which("kubectl", path=environ.get("PATH", os.defpath)) is None:
            raise CommandFailed(
                "there is no kubectl",
                hint=f"install kubectl {diagnosis.OLDEST} or newer, or put its folder on the PATH "
                f"({environ.get('PATH', 'not set')})",
            )
        made = cls(target, environ, say)
        with ExitStack() as unless_open:
            unless_open.callback(made.close)
            made._begin(Deadline.after(patience))
            unless_open.pop_all()
        return made

    def close(self) -> None:
        """End kubectl and what still waits for an answer; remove what was made."""
        self._finalizer()

    # What api.Api promises

    def request(
        self,
        method: str,
        path: str,
        body: Object | list[Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        patience: float | None = None,
    ) -> Object:
        """Send one request and return the answer.

        :raises ApiError: when the server refuses.
        :raises Unreachable: after ``patience`` seconds; at once when its outcome is unknown and it must not be done
            twice.
        """
        call, tries = Call(method, path, body, query or {}, content_type), Tries()
        try:
            return answers.decoded(self._answer(call, tries, patience))
        except ApiError as error:
            if tries.unclear and method == "POST" and error.reason == "AlreadyExists":
                found = self.get(f"{path}/{call.name}")
                if found is not None and answers.made_by(call, found):
                    return found
            raise

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Object | None:
        """Return an object, or None where there is none."""
        try:
            return self.request("GET", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[list[Object], str]:
        """Return all objects of a collection, each with its kind, and the resource version of the list."""
        asked = {"limit": _PAGE, **(query or {})}
        found: list[Object] = []
        while True:
            try:
                page = self.request("GET", path, query=asked)
            except ApiError as error:
                if error.status != 410 or "continue" not in asked:
                    raise
                del asked["continue"]  # it took so long that the server forgot what the next page was
                found = []
                continue
            kind = str(page["kind"]).removesuffix("List")
            found += [{"apiVersion": page["apiVersion"], "kind": kind, **one} for one in page.get("items") or ()]
            meta = page.get("metadata", {})
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion", ""))
            asked["continue"] = meta["continue"]

    def watch(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[Object]:
        """Yield the events of a watch until the server ends it.

        :raises ApiError: as the server says; 410 when the version is too old.
        :raises Unreachable: when it was cut: list again, and watch from there.
        """
        call = Call("GET", path, query={**(query or {}), "watch": "1", "resourceVersion": version})
        with ExitStack() as stack:
            lines: Iterator[bytes] = iter(())

            def begin(pool: Pool, deadline: Deadline) -> Response:
                nonlocal lines
                response, lines = stack.enter_context(pool.stream(call.target, call.headers, deadline))
                return response if response.status == 200 else replace(response, body=b"\n".join(lines))

            self._tried(call, Tries(), Deadline.after(PATIENCE), begin)
            try:
                yield from map(answers.event, filter(None, lines))
            except Lost as error:
                raise self._unreachable(call, f"the watch was cut: {error}") from error

    def text(self, path: str, *, query: Mapping[str, str] | None = None) -> str:
        """Return an answer that is no JSON."""
        call = Call("GET", path, query=query or {}, accept="*/*")
        return self._answer(call, Tries(), None).body.decode("utf-8", "replace")

    def each(self, function: Callable[[T], R], over: Iterable[T]) -> list[R]:
        """Call a function for each, eight side by side, and return the results in order.

        The first error ends it: what was not begun is not begun. What was is waited for, for some seconds, and not
        tried again, so that nothing goes on when this returns. So it is when a signal ends it.
        """
        given = list(over)
        if len(given) < 2 or self._line.inside:
            return [function(one) for one in given]
        ending = Ending()

        def call(one: T) -> R:
            with self._line.ending(ending):
                return function(one)

        with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(given)), "each") as threads:
            try:
                futures = [threads.submit(call, one) for one in given]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                ending.set()
                threads.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            if future in done:
                future.result()  # raises the first error, not what followed from it
        return [future.result() for future in futures]

    # Trying

    def _begin(self, deadline: Deadline) -> None:
        if self.target.context == IN_CLUSTER:
            self.target.write_kubeconfig(self._environ)
        with ThreadPoolExecutor(1) as side:  # kubectl takes a tenth of a second to start, so side by side
            version = side.submit(diagnosis.check_version, self._environ)
            try:
                try:
                    self._line.open(deadline)
                except CommandFailed as error:
                    raise diagnosis.refused(self.target, self._environ, error) from error
                try:
                    self._tried(Call("GET", "/version"), Tries(), deadline, opening=True)
                except ApiError as error:
                    if error.status != 403:  # it knows who asks, and does not tell everybody its version
                        raise
            except DeployGuardError:
                version.result()  # where kubectl is too old, that is the reason to tell
                raise
            version.result()

    def _answer(self, call: Call, tries: Tries, patience: float | None) -> Response:
        return self._tried(call, tries, Deadline.after(PATIENCE if patience is None else patience))

    def _tried(
        self,
        call: Call,
        tries: Tries,
        deadline: Deadline,
        send: Callable[[Pool, Deadline], Response] | None = None,
        *,
        opening: bool = False,
    ) -> Response:
        headers, body = call.headers, call.encoded

        def exchange(pool: Pool, limit: Deadline) -> Response:
            return pool.request(call.method, call.target, headers, body, limit)

        failed: Again | None = None

        def again() -> Response:
            nonlocal failed
            if failed is not None:  # begins with the wait that follows the first try
                error, failed = failed, None
                raise error
            return self._try(call, tries, deadline, send or exchange)

        try:
            return self._try(call, tries, deadline, send or exchange)
        except Again as error:
            if opening and answers.HOPELESS.search(str(error)):
                raise diagnosis.hopeless(self.target, str(error)) from error
            failed = error
        except ApiError as error:
            raise self._explained(error) from error.__cause__
        try:
            return retrying(
                again,
                retry_on=(Again,),
                deadline=deadline,
                attempts=_TRIES,
                base=_FIRST,
                maximum=_LONGEST,
                at_least=lambda error: error.after if isinstance(error, Again) else 0.0,
                sleep=self._line.sleep,
            )
        except Again as error:
            if error.error is not None:  # it did answer, and refuses for longer than we wait
                raise self._explained(error.error) from None
            raise self._unreachable(call, str(error), deadline) from error
        except ApiError as error:
            raise self._explained(error) from error.__cause__

    def _try(
        self, call: Call, tries: Tries, deadline: Deadline, send: Callable[[Pool, Deadline], Response]
    ) -> Response:
        strand = self._line.strand()
        try:
            response = send(strand.pool, Deadline.after(min(_TRY, deadline.remaining)))
            answers.judge(call, tries, response)
        except (NotSent, Lost) as error:
            sent, why = isinstance(error, Lost), str(error)
            if how := self._line.died(strand, _CUT if sent else _ENDED):
                why = how
                if tries.renewed:
                    raise self._unreachable(call, f"{how}, though it had just been started again") from error
                tries.renewed = True
                self._line.renew(strand, how)
            raise self._again(call, tries, Again(why, unclear=sent)) from error
        except Again as error:
            raise self._again(call, tries, error) from error.__cause__
        except ApiError as error:
            if error.status != 401 or tries.renewed or not strand.proxy.worked:
                raise
            # It read its credentials when it started; who logged in again meanwhile wrote new ones.
            tries.renewed = True
            self._line.renew(strand, "the credentials of kubectl proxy are refused by now (401)")
            raise Again(str(error), error) from None
        strand.proxy.worked = True
        if "warning" in response.headers:
            self._warn(answers.warnings_of(response))
        return response

    def _again(self, call: Call, tries: Tries, error: Again) -> Again:
        """Return the error of a try that may be followed by another; raises when it must not."""
        tries.unclear = tries.unclear or error.unclear
        if error.unclear and not call.repeatable:
            raise self._unreachable(call, f"{error}; whether it was done is unknown, and it must not be done twice")
        return error

    def _warn(self, texts: list[str]) -> None:
        for text in texts:
            with self._asking:
                known = text in self._warned
                self._warned.add(text)
            if not known:
                self._say(f"the API server warns: {one_line(text)}")

    def _explained(self, error: ApiError) -> ApiError:
        return diagnosis.unauthorized(self.target, error) if error.status == 401 else error

    def _unreachable(self, call: Call, why: str, deadline: Deadline | None = None) -> Unreachable:
        with self._asking:
            if self._address is None:
                self._address = diagnosis.address(self.target, self._environ)
        return diagnosis.unreachable(self.target, self._address, call, why, self._line.said(), deadline)
