"""Requests through a process that stands in for kubectl, and everything that can go wrong on their way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubectl_standin import Standin

from deploy_guard.drivers.kubernetes import proxy
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import CommandFailed

ONE = Target("one", "shop")
PATH = "/api/v1/namespaces/shop/configmaps"
NAMED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "b"}}
APPLY = "application/apply-patch+yaml"
AWAY = "dial tcp 10.1.2.3:6443: connect: connection refused"


def status(code: int, reason: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, **more}


def gone(number: int, seconds: float = 5) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def stop(number: int) -> None:
    """Freeze a process; when this returns, all of its threads are."""
    os.kill(number, signal.SIGSTOP)
    while psutil.Process(number).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


@pytest.fixture
def standin(tmp_path: Path) -> Standin:
    """A kubectl that does what the test orders."""
    return Standin(tmp_path / "standin")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def api(standin: Standin, said: list[str]) -> Iterator[Connection]:
    made = Connection.open(ONE, standin.environ, say=said.append)
    _satisfied: Api = made
    yield made
    made.close()


# What api.Api promises


def test_a_request_is_sent_as_it_is_given(standin: Standin, api: Connection) -> None:
    answer = api.request(
        "PATCH", f"{PATH}/a:b ?", NAMED, query={"dryRun": "All", "fieldManager": "a b"}, content_type=APPLY
    )
    (asked,) = standin.requests
    assert answer["method"] == "PATCH"
    assert asked["path"] == f"{PATH}/a:b%20%3F?dryRun=All&fieldManager=a+b"
    assert json.loads(asked["body"]) == NAMED
    assert asked["headers"]["Content-Type"] == APPLY
    assert asked["headers"]["User-Agent"].startswith("deploy-guard/")


def test_a_refusal_has_status_reason_and_details(standin: Standin, api: Connection) -> None:
    causes = {"causes": [{"field": ".spec", "message": "conflict"}]}
    standin.order(status=409, body=status(409, "Conflict", "Apply failed", details=causes))
    with pytest.raises(ApiError, match="Apply failed") as error:
        api.request("PATCH", f"{PATH}/web", NAMED, content_type=APPLY)
    assert (error.value.status, error.value.reason, error.value.details) == (409, "Conflict", causes)
    assert len(standin.requests) == 1


def test_an_object_that_is_not_there_is_none(standin: Standin, api: Connection) -> None:
    standin.order(status=404, body=status(404, "NotFound"))
    standin.order(status=404, body="404 page not found")
    standin.order(status=403, body=status(403, "Forbidden"))
    assert api.get(f"{PATH}/web") is None
    assert api.get("/apis/none/v1/things") is None
    with pytest.raises(ApiError):
        api.get(f"{PATH}/web")


def test_a_collection_is_read_page_by_page_and_objects_have_their_kind(standin: Standin, api: Connection) -> None:
    head = {"kind": "ConfigMapList", "apiVersion": "v1"}
    standin.order(body=head | {"metadata": {"resourceVersion": "7", "continue": "c/1"}, "items": [{"data": {}}]})
    standin.order(body=head | {"metadata": {"resourceVersion": "7"}, "items": None})
    found, version = api.items(PATH, query={"labelSelector": "a=b"})
    assert (found, version) == ([{"apiVersion": "v1", "kind": "ConfigMap", "data": {}}], "7")
    assert [one["path"].partition("?")[2] for one in standin.requests] == [
        "limit=500&labelSelector=a%3Db",
        "limit=500&labelSelector=a%3Db&continue=c%2F1",
    ]


def test_a_collection_that_expired_between_two_pages_is_read_again(standin: Standin, api: Connection) -> None:
    head = {"kind": "PodList", "apiVersion": "v1"}
    standin.order(body=head | {"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [{"a": 1}, {"a": 2}]})
    standin.order(status=410, body=status(410, "Expired"))
    standin.order(body=head | {"metadata": {"resourceVersion": "9"}, "items": [{"a": 3}]})
    found, version = api.items(PATH)
    assert ([one["a"] for one in found], version) == ([3], "9")


def test_text_is_returned_as_it_is(standin: Standin, api: Connection) -> None:
    standin.order(body="one\ntwo\n")
    assert api.text("/api/v1/namespaces/shop/pods/web/log", query={"tailLines": "25"}) == "one\ntwo\n"


def test_a_watch_yields_its_events_and_ends(standin: Standin, api: Connection) -> None:
    events = [{"type": "ADDED", "object": {"a": 1}}, {"type": "MODIFIED", "object": {"a": 2}}]
    standin.order(lines=events)
    assert list(api.watch(PATH, "7", query={"timeoutSeconds": "5"})) == events
    assert standin.requests[0]["path"].endswith("?timeoutSeconds=5&watch=1&resourceVersion=7")


def test_a_watch_from_a_version_that_is_too_old_says_so(standin: Standin, api: Connection) -> None:
    standin.order(lines=[{"type": "ERROR", "object": status(410, "Expired")}])
    standin.order(status=410, body=status(410, "Expired"))
    for _ in range(2):
        with pytest.raises(ApiError) as error:
            list(api.watch(PATH, "7"))
        assert (error.value.status, error.value.reason) == (410, "Expired")


def test_a_watch_that_is_cut_is_not_taken_for_its_end(standin: Standin, api: Connection) -> None:
    standin.order(lines=[{"type": "ADDED", "object": {}}], cut=True)
    watch = api.watch(PATH, "7")
    assert next(watch)["type"] == "ADDED"
    with pytest.raises(Unreachable, match="the watch was cut"):
        next(watch)


def test_a_watch_that_nobody_reads_on_leaves_no_connection(standin: Standin, api: Connection) -> None:
    standin.order(lines=[{"type": "ADDED", "object": {}}], open=True)
    watch = api.watch(PATH, "7")
    next(watch)
    watch.close()  # type: ignore[attr-defined]
    assert not api._line.strand().pool._all.difference(api._line.strand().pool._idle)


def test_a_watch_waits_for_a_server_that_is_away_when_it_begins(standin: Standin, api: Connection) -> None:
    standin.order(status=500, body=AWAY)
    standin.order(lines=[{"type": "ADDED", "object": {}}])
    assert len(list(api.watch(PATH, "7"))) == 1


def test_warnings_of_the_server_are_said_once(standin: Standin, api: Connection, said: list[str]) -> None:
    for _ in range(2):
        standin.order(headers={"Warning": '299 - "v1beta1 is \\"old\\"", 299 - "use v1"'})
        api.request("GET", PATH)
    assert said == ['the API server warns: v1beta1 is "old"', "the API server warns: use v1"]


# Side by side


def test_each_works_side_by_side_and_returns_results_in_order(standin: Standin, api: Connection) -> None:
    for _ in range(8):
        standin.order(hang=0.5)
    started = time.monotonic()
    found = api.each(lambda n: api.request("GET", f"/{n}")["path"], range(8))
    assert found == [f"/{n}" for n in range(8)]
    assert time.monotonic() - started < 2


def test_the_first_error_ends_each_and_waits_for_what_was_begun(standin: Standin, api: Connection) -> None:
    standin.order(path="/0", status=403, body=status(403, "Forbidden", "not you"))
    for n in range(1, 8):
        standin.order(path=f"/{n}", hang=0.5)
    ended: list[int] = []

    def ask(n: int) -> None:
        api.request("POST", f"/{n}", NAMED)
        ended.append(n)

    with pytest.raises(ApiError, match="not you"):
        api.each(ask, range(100))
    asked = len(standin.requests)
    assert asked < 20
    assert len(ended) == asked - 1
    time.sleep(0.3)
    assert len(standin.requests) == asked


def test_what_each_began_is_not_tried_again_after_an_error(standin: Standin, api: Connection) -> None:
    standin.order(path="/0", hang=0.5, status=403, body=status(403, "Forbidden", "not you"))
    for _ in range(50):
        standin.order(path="/1", status=500, body=AWAY)
    started = time.monotonic()
    with pytest.raises(ApiError, match="not you"):
        api.each(lambda n: api.request("GET", f"/{n}"), range(2))
    assert time.monotonic() - started < 3


def test_each_inside_of_each_does_not_wait_for_itself(api: Connection) -> None:
    found = api.each(lambda n: api.each(lambda m: n * m, range(3)), range(20))
    assert found[2] == [0, 2, 4]


def test_an_interruption_of_each_ends_it_in_seconds(standin: Standin, api: Connection) -> None:
    for n in range(8):
        standin.order(path=f"/{n}", hang=20)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            api.each(lambda n: api.request("GET", f"/{n}"), range(8))
        assert time.monotonic() - started < 8
    finally:
        signal.signal(signal.SIGUSR1, before)


# Tried again


@pytest.mark.parametrize(
    "order",
    [
        {"status": 500, "body": AWAY},
        {"status": 502, "body": "bad gateway"},
        {"status": 503, "body": status(503, "ServiceUnavailable")},
        {"status": 504, "body": status(504, "Timeout")},
        {"status": 500, "body": status(500, "InternalError", "etcdserver: leader changed")},
        {"status": 429, "body": status(429, "TooManyRequests")},
        {"cut": True},
        {"die": "before"},
        {"die": "after"},
    ],
)
def test_what_may_be_done_twice_is_tried_again(standin: Standin, api: Connection, order: dict[str, Any]) -> None:
    standin.order(**order)
    assert api.request("PATCH", f"{PATH}/web", NAMED, content_type=APPLY)["kind"] == "Echo"
    api.request("GET", PATH)
    assert [one["method"] for one in standin.requests].count("PATCH") == (1 if order.get("die") == "after" else 2)


def test_a_webhook_that_rejects_is_not_asked_again(standin: Standin, api: Connection) -> None:
    standin.order(status=500, body=status(500, "InternalError", 'failed calling webhook "x": connection refused'))
    with pytest.raises(ApiError, match="webhook"):
        api.request("PATCH", f"{PATH}/web", NAMED, content_type=APPLY)
    assert len(standin.requests) == 1


def test_retry_after_is_kept(standin: Standin, api: Connection) -> None:
    standin.order(status=429, body="slow down", headers={"Retry-After": "1"})
    standin.order(status=429, body=status(429, "TooManyRequests", details={"retryAfterSeconds": 1}))
    started = time.monotonic()
    api.request("POST", PATH, {"metadata": {"generateName": "web-"}})  # it was not done: any request may go again
    assert 2 <= time.monotonic() - started < 4


def test_a_server_that_goes_on_refusing_is_quoted_when_the_patience_is_over(standin: Standin, api: Connection) -> None:
    for _ in range(50):
        standin.order(status=429, body=status(429, "TooManyRequests", "too many"))
    with pytest.raises(ApiError, match="too many"):
        api.request("GET", PATH, patience=1)


def test_an_api_server_that_stays_away_is_told_with_its_address(standin: Standin, api: Connection) -> None:
    for _ in range(50):
        standin.order(status=500, body=AWAY)
    started = time.monotonic()
    with pytest.raises(Unreachable) as error:
        api.request("GET", PATH, patience=1.5)
    assert time.monotonic() - started < 3
    for word in ("https://10.1.2.3:6443", "context one", "within 1.5 s", AWAY, f"GET {PATH}"):
        assert word in error.value.what
    assert "kubectl --context one -n shop get --raw /readyz" in error.value.hint


def test_an_answer_that_does_not_come_ends_with_the_patience(standin: Standin, api: Connection) -> None:
    standin.order(hang=20)
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"no answer within 1 s"):
        api.request("GET", PATH, patience=1)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("method", "body", "content_type"),
    [
        ("POST", {"kind": "Pod", "metadata": {"generateName": "web-"}}, "application/json"),
        ("PUT", NAMED, "application/json"),
        ("PATCH", [{"op": "add", "path": "/data/a", "value": "b"}], "application/json-patch+json"),
        ("PATCH", NAMED, "application/strategic-merge-patch+json"),
    ],
)
def test_what_must_not_be_done_twice_is_not(
    standin: Standin, api: Connection, method: str, body: Any, content_type: str
) -> None:
    standin.order(status=500, body="http2: client connection lost")
    with pytest.raises(Unreachable, match="whether it was done is unknown"):
        api.request(method, f"{PATH}/web", body, content_type=content_type)
    assert len(standin.requests) == 1
    standin.order(status=500, body=AWAY)  # it never arrived
    assert api.request(method, f"{PATH}/web", body, content_type=content_type)["kind"] == "Echo"


@pytest.mark.parametrize(
    ("method", "body", "content_type", "query"),
    [
        ("PUT", {"metadata": {"resourceVersion": "7"}}, "application/json", {}),
        ("PATCH", [{"op": "test", "path": "/x", "value": 1}], "application/json-patch+json", {}),
        ("PATCH", NAMED, "application/merge-patch+json", {}),
        ("POST", {"kind": "SelfSubjectAccessReview"}, "application/json", {}),
        ("POST", {"metadata": {"generateName": "web-"}}, "application/json", {"dryRun": "All"}),
        ("DELETE", None, "application/json", {}),
    ],
)
def test_what_is_bound_or_changes_nothing_is_tried_again(
    standin: Standin, api: Connection, method: str, body: Any, content_type: str, query: dict[str, str]
) -> None:
    standin.order(cut=True)
    assert api.request(method, f"{PATH}/web", body, content_type=content_type, query=query)["kind"] == "Echo"


def test_a_delete_that_was_done_at_the_first_try_is_done(standin: Standin, api: Connection) -> None:
    standin.order(cut=True)
    standin.order(status=404, body=status(404, "NotFound"))
    assert api.request("DELETE", f"{PATH}/web") == {}
    standin.order(status=404, body=status(404, "NotFound"))
    with pytest.raises(ApiError):
        api.request("DELETE", f"{PATH}/web")


def made(**more: Any) -> dict[str, Any]:
    meta = {"name": "web", "uid": "u", "managedFields": [{"manager": "deploy-guard"}]}
    return NAMED | {"metadata": meta} | more


def test_a_post_that_was_done_at_the_first_try_is_answered_with_its_object(standin: Standin, api: Connection) -> None:
    standin.order(cut=True)
    standin.order(status=409, body=status(409, "AlreadyExists"))
    standin.order(body=made())
    assert api.request("POST", PATH, NAMED, query={"fieldManager": "deploy-guard"}) == made()
    assert [one["method"] for one in standin.requests] == ["POST", "POST", "GET"]
    assert standin.requests[2]["path"] == f"{PATH}/web"


@pytest.mark.parametrize("there", [made(data={"a": "other"}), made(metadata={"name": "web", "managedFields": []})])
def test_an_object_of_somebody_else_is_not_taken_for_what_was_posted(
    standin: Standin, api: Connection, there: dict[str, Any]
) -> None:
    standin.order(cut=True)
    standin.order(status=409, body=status(409, "AlreadyExists"))
    standin.order(body=there)
    with pytest.raises(ApiError) as error:
        api.request("POST", PATH, NAMED, query={"fieldManager": "deploy-guard"})
    assert error.value.reason == "AlreadyExists"


def test_an_object_that_was_there_before_the_first_try_is_an_error(standin: Standin, api: Connection) -> None:
    standin.order(status=409, body=status(409, "AlreadyExists"))
    with pytest.raises(ApiError):
        api.request("POST", PATH, NAMED)
    assert len(standin.requests) == 1


# kubectl


def test_it_has_a_private_folder_a_group_of_its_own_and_the_environment_of_the_run(
    standin: Standin, api: Connection, tmp_path: Path
) -> None:
    (number,) = standin.proxies
    socket = api._line.strand().proxy.socket
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert os.getpgid(number) == number != os.getpgid(0)
    environ = json.loads((standin.folder / "environ.json").read_text())
    assert standin.environ.items() <= environ.items()
    words = json.loads((standin.folder / "words").read_text())
    assert words[:5] == ["--context", "one", "--namespace", "shop", "proxy"]
    assert "--append-server-path" in words  # else a cluster behind Rancher answers 404
    assert not any(word.startswith(("--port", "--address", "--disable-filter")) for word in words)
    api.close()
    assert gone(number)
    assert not socket.parent.exists()
    with pytest.raises(Unreachable, match="closed"):
        api.request("GET", PATH)


def test_it_ends_when_nobody_knows_the_connection_any_longer(standin: Standin) -> None:
    made = Connection.open(ONE, standin.environ)
    folder = made._line.strand().proxy.socket.parent
    made.request("GET", PATH)
    del made
    assert gone(standin.proxies[0])
    assert not folder.exists()


OPENED = """
import os, sys
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.target import Target
made = Connection.open(Target("one", "shop"), os.environ)
print(made._line.strand().proxy.socket.parent, flush=True)
"""


def started(standin: Standin, code: str) -> tuple[subprocess.Popen[str], Path]:
    """A run that opened a connection, and the private folder of it."""
    run = subprocess.Popen(
        [sys.executable, "-c", OPENED + code],
        env=standin.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    return run, Path(run.stdout.readline().strip())


def test_it_ends_with_the_run(standin: Standin) -> None:
    run, folder = started(standin, "")
    with run:
        assert run.wait(10) == 0
    assert gone(standin.proxies[0])
    assert not folder.exists()


def test_it_does_not_outlive_a_run_that_was_killed(standin: Standin) -> None:
    run, _folder = started(standin, "import time; time.sleep(60)")
    with run:
        run.kill()
    assert gone(standin.proxies[0])


def test_the_folder_of_a_run_that_was_killed_is_removed_by_a_later_one(standin: Standin, tmp_path: Path) -> None:
    standin.environ["TMPDIR"] = str(tmp_path)
    run, left = started(standin, "import time; time.sleep(60)")
    with run:
        run.kill()
    live = Connection.open(ONE, standin.environ)
    kept = live._line.strand().proxy.socket.parent
    for folder in (left, kept):
        os.utime(folder, (0, 0))
    Connection.open(ONE, standin.environ).close()
    assert not left.exists()
    assert kept.exists()
    live.close()
    assert not kept.exists()


def test_a_forked_process_that_ends_leaves_it_running(standin: Standin) -> None:
    code = "pid = os.fork()\nif pid == 0: sys.exit(0)\nos.waitpid(pid, 0)\n"
    run, folder = started(standin, code + "made.request('GET', '/x')\nprint('well', flush=True)\nsys.stdin.read()")
    with run:
        assert run.stdout is not None
        assert run.stdout.readline().strip() == "well"
        assert folder.exists()
        assert not gone(standin.proxies[0], 0.1)
        run.kill()


def test_a_long_tmpdir_does_not_matter(standin: Standin, tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 20) / ("longer" * 10)
    deep.mkdir(parents=True)
    made = Connection.open(ONE, standin.environ | {"TMPDIR": str(deep)})
    assert made.request("GET", PATH)["kind"] == "Echo"
    made.close()
    assert not list(deep.iterdir())


def test_no_place_for_the_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="too long a path") as error:
        proxy.private_folder({"TMPDIR": str(tmp_path / "none")}, longest=20)
    assert "TMPDIR" in error.value.hint


def test_a_missing_kubectl_is_told(standin: Standin, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there is no kubectl") as error:
        Connection.open(ONE, {"PATH": str(tmp_path)})
    assert "1.25 or newer" in error.value.hint
    assert str(tmp_path) in error.value.hint


@pytest.mark.parametrize("version", ["v1.24.17", "v1.9.0", "v0.30.1"])
def test_an_old_kubectl_is_refused(standin: Standin, version: str) -> None:
    standin.configure(version=version)
    with pytest.raises(CommandFailed, match=f"kubectl {version} is too old"):
        Connection.open(ONE, standin.environ)
    assert all(gone(number) for number in standin.proxies)


def test_an_old_kubectl_is_the_reason_when_its_proxy_does_not_start(standin: Standin) -> None:
    standin.configure(version="v1.22.0")
    with pytest.raises(CommandFailed, match="too old"):
        Connection.open(Target("three", "shop"), standin.environ)


@pytest.mark.parametrize("version", ["v1.25.0", "v1.33.4+k3s1", "v1.30.5-dispatcher", "v2.0.0"])
def test_versions_of_vendors_are_understood(standin: Standin, version: str) -> None:
    standin.configure(version=version)
    Connection.open(ONE, standin.environ).close()


def test_a_kubectl_that_does_not_tell_its_version_is_refused(standin: Standin) -> None:
    standin.configure(says="hello")
    with pytest.raises(CommandFailed, match="does not say which version it is: hello"):
        Connection.open(ONE, standin.environ)


def test_an_unknown_context_is_told_with_those_there_are(standin: Standin) -> None:
    with pytest.raises(CommandFailed, match='ended with exit code 1\n  kubectl: error: context "three"') as error:
        Connection.open(Target("three", "shop"), standin.environ)
    assert "kubectl knows these contexts: one, two" in error.value.hint


def test_a_kubectl_that_does_not_begin_to_serve_is_ended(standin: Standin) -> None:
    standin.configure(proxy="silent")
    with pytest.raises(CommandFailed, match="did not begin to serve within 1 s"):
        Connection.open(ONE, standin.environ, patience=1)
    assert gone(standin.proxies[0])


def test_a_server_that_is_away_at_the_beginning_is_waited_for(standin: Standin) -> None:
    standin.order(path="/version", status=500, body=AWAY)
    Connection.open(ONE, standin.environ).close()
    for _ in range(50):
        standin.order(path="/version", status=500, body=AWAY)
    standin.configure(complains="E1128 05:07:44.996046   31104 proxy_server.go:147] Error while proxying")
    with pytest.raises(Unreachable, match="\n  kubectl: Error while proxying") as error:
        Connection.open(ONE, standin.environ, patience=1)
    assert "https://10.1.2.3:6443" in error.value.what
    assert all(gone(number) for number in standin.proxies)


@pytest.mark.parametrize(
    "words",
    [
        "getting credentials: exec: executable aws failed with exit code 255",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "dial tcp: lookup api.example.com: no such host",
    ],
)
def test_what_no_other_try_will_help_is_told_at_once(standin: Standin, words: str) -> None:
    standin.order(path="/version", status=500, body=words)
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"kubectl can't talk to the cluster of the context one: ") as error:
        Connection.open(ONE, standin.environ)
    assert words in error.value.what
    assert time.monotonic() - started < 5


def test_wrong_credentials_are_told(standin: Standin) -> None:
    for _ in range(2):
        standin.order(path="/version", status=401, body=status(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(
        ApiError, match="the credentials of the context one are expired or wrong: Unauthorized"
    ) as error:
        Connection.open(ONE, standin.environ)
    assert error.value.status == 401
    assert "kubectl --context one -n shop auth whoami" in error.value.hint


def test_credentials_that_kubectl_renews_after_a_refusal_are_used(standin: Standin, api: Connection) -> None:
    standin.order(status=401, body=status(401, "Unauthorized"))
    assert api.request("POST", PATH, {"metadata": {"generateName": "web-"}})["kind"] == "Echo"


def test_a_kubectl_whose_credentials_are_refused_later_is_started_with_those_of_now(
    standin: Standin, api: Connection, said: list[str]
) -> None:
    api.request("GET", PATH)
    for _ in range(2):
        standin.order(status=401, body=status(401, "Unauthorized"))
    assert api.request("GET", PATH)["kind"] == "Echo"
    assert said == ["the credentials of kubectl proxy are refused by now (401); it was started again"]
    for _ in range(4):
        standin.order(status=401, body=status(401, "Unauthorized"))
    with pytest.raises(ApiError, match="expired or wrong"):
        api.request("GET", PATH)
    assert len(standin.proxies) == 3


def test_a_server_that_does_not_tell_everybody_its_version_will_do(standin: Standin) -> None:
    standin.order(path="/version", status=403, body=status(403, "Forbidden"))
    Connection.open(ONE, standin.environ).close()


def test_a_proxy_that_was_killed_is_started_again_and_that_is_said(
    standin: Standin, api: Connection, said: list[str]
) -> None:
    os.kill(standin.proxies[0], signal.SIGKILL)
    assert api.request("POST", PATH, {"metadata": {"generateName": "web-"}})["kind"] == "Echo"
    assert len(standin.proxies) == 2
    (line,) = said
    assert line == "kubectl proxy was ended by SIGKILL; it was started again"
    api.close()
    assert gone(standin.proxies[1])


def test_a_proxy_that_dies_under_several_threads_is_started_once(standin: Standin, api: Connection) -> None:
    for _ in range(7):
        standin.order(hang=1)
    standin.order(die="before")
    found = api.each(lambda n: api.request("GET", f"/{n}")["path"], range(8))
    assert found == [f"/{n}" for n in range(8)]
    assert len(standin.proxies) == 2


def test_a_proxy_that_dies_again_and_again_is_given_up(standin: Standin, api: Connection) -> None:
    for _ in range(5):
        standin.order(die="before")
    with pytest.raises(Unreachable, match="was ended by SIGKILL, though it had just been started again"):
        api.request("GET", PATH)
    assert len(standin.proxies) == 2


def test_a_proxy_that_can_not_be_started_again_is_told(standin: Standin, api: Connection) -> None:
    standin.configure(fails="error: the kubeconfig is gone")
    os.kill(standin.proxies[0], signal.SIGKILL)
    with pytest.raises(Unreachable, match=r"(?s)can't be started again: .*the kubeconfig is gone"):
        api.request("GET", PATH)


def test_a_proxy_that_is_stopped_is_replaced(standin: Standin, api: Connection, said: list[str]) -> None:
    stop(standin.proxies[0])
    started = time.monotonic()
    assert api.request("GET", PATH)["kind"] == "Echo"
    assert time.monotonic() - started < 8
    assert gone(standin.proxies[0])
    assert "SIGSTOP" in said[0]


def test_a_proxy_that_is_stopped_for_a_moment_is_waited_for(standin: Standin, api: Connection) -> None:
    stop(standin.proxies[0])
    threading.Timer(1, os.kill, (standin.proxies[0], signal.SIGCONT)).start()
    assert api.request("GET", PATH)["kind"] == "Echo"
    assert len(standin.proxies) == 1


def test_a_watch_notices_that_the_proxy_is_stopped(standin: Standin, api: Connection) -> None:
    standin.order(lines=[{"type": "ADDED", "object": {}}], open=True)
    watch = api.watch(PATH, "7")
    next(watch)
    stop(standin.proxies[0])
    with pytest.raises(Unreachable, match="SIGSTOP"):
        next(watch)
    assert api.request("GET", PATH)["kind"] == "Echo"


def test_its_guardian_killed_takes_it_along_and_both_are_replaced(standin: Standin, api: Connection) -> None:
    first = standin.proxies[0]
    psutil.Process(psutil.Process(first).ppid()).kill()
    assert gone(first)
    assert api.request("GET", PATH)["kind"] == "Echo"


def test_closing_ends_those_who_wait(standin: Standin, api: Connection) -> None:
    standin.order(hang=20)
    threading.Timer(0.5, api.close).start()
    started = time.monotonic()
    with pytest.raises(Unreachable, match="closed"):
        api.request("GET", PATH)
    assert time.monotonic() - started < 5
