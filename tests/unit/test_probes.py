from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import git
import pytest

from deploy_guard import ConfigurationError, Deadline
from deploy_guard.config import load
from deploy_guard.probes.environment import problems
from deploy_guard.probes.machine import Machine
from deploy_guard.probes.repo import Repo
from deploy_guard.probes.service import Service, ServiceError
from deploy_guard.retry import retrying


class Web:
    """A real HTTP server that answers as it is told to, and counts."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                status, body = web.answers.pop(0) if len(web.answers) > 1 else web.answers[0]
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.server.shutdown()
    made.server.server_close()


def quick(url: str | None) -> Service:
    return Service(url, timeout=5, log=lambda _: None)


def test_the_version_is_read_from_json_and_from_text(web: Web) -> None:
    web.answers = [(200, b'{"version": "v1.0.0", "app": {"v": 2}}')]
    assert quick(web.url).version() == "v1.0.0"
    assert Service(web.url, version_path="app.v").version() == "2"
    with pytest.raises(ServiceError, match=r"there is no app\.nonesuch"):
        Service(web.url, version_path="app.nonesuch").version()
    web.answers = [(200, b"v1.0.0\n")]
    assert quick(web.url).version() == "v1.0.0"


def test_server_errors_and_dropped_connections_are_tried_three_times(web: Web) -> None:
    web.answers = [(500, b""), (0, b""), (200, b"ok")]
    said: list[str] = []
    assert Service(web.url, timeout=10, log=said.append).get("/x").text == "ok"
    assert web.asked == ["/x"] * 3
    assert "attempt 1 of 3 failed" in said[0]
    assert "status 500" in said[0]
    web.answers = [(503, b"down")]
    web.asked.clear()
    with pytest.raises(ServiceError, match="status 503: down"):
        quick(web.url).get("/x")
    assert len(web.asked) == 3


def test_a_client_error_fails_at_once_and_the_query_is_not_repeated(web: Web) -> None:
    web.answers = [(404, b"nobody here")]
    with pytest.raises(ServiceError, match="status 404: nobody here") as error:
        quick(web.url).get("/x?token=canary-4711")
    assert len(web.asked) == 1
    assert "canary-4711" not in str(error.value)


def test_a_service_that_is_not_there_is_told_without_its_query() -> None:
    with pytest.raises(ServiceError, match="ConnectionError") as error:
        quick("http://127.0.0.1:1").get("/x?token=canary-4711")
    assert "canary-4711" not in str(error.value)


def test_without_a_url_the_error_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set SERVICE_URL"):
        quick(None).get("/")
    config = load(None, directory=tmp_path).for_env("dev")
    assert Service.of(config, {"SERVICE_URL": "http://h/base"}).url("/x") == "http://h/base/x"


def test_retrying_stays_within_its_deadline() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError("x")

    with pytest.raises(OSError, match="x"):
        retrying(fail, retry_on=(OSError,), deadline=Deadline.after(0.01), base=1.0)
    assert len(calls) == 1
    with pytest.raises(OSError, match="x"):
        retrying(fail, retry_on=(ValueError,), deadline=Deadline.after(9))
    assert len(calls) == 2


GOOD = {"SERVICE_URL": "https://h/", "VERSION": "v1", "TOKEN": "canary-4711", "ENV": "stage"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"ENV": ""}, []),
        ({"ENV": "prod"}, ["ENV names another environment than --deploy-env=stage"]),
        ({"VERSION": " "}, ["VERSION is not set, or blank"]),
        ({"TOKEN": "", "API_KEY": " "}, ["none of API_KEY, TOKEN is set"]),
        ({"SERVICE_URL": "h"}, ["SERVICE_URL is not an http:// or https:// URL"]),
        ({"SERVICE_URL": "https://u:canary-4711@h/"}, ["SERVICE_URL holds credentials"]),
        ({"SERVICE_URL": "http://[bad"}, ["SERVICE_URL is not a URL"]),
        ({"SERVICE_URL": "", "VERSION": "", "TOKEN": ""}, ["SERVICE_URL", "VERSION", "none of"]),
    ],
)
def test_problems_of_the_environment_are_told_by_name_and_never_by_value(
    tmp_path: Path, change: dict[str, str], words: list[str]
) -> None:
    config = load(None, directory=tmp_path).for_env("stage")
    found = problems(config, {**GOOD, **change})
    assert len(found) == len(words)
    assert all(word in said for word, said in zip(words, found, strict=True))
    assert "canary-4711" not in " ".join(found)


def test_one_secret_of_its_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_text('secrets = ["DB_PASSWORD"]\nrequired-variables = []\n')
    config = load(tmp_path / "deploy-guard.toml", directory=tmp_path).for_env("stage")
    assert problems(config, {}) == ["DB_PASSWORD is not set, or blank"]


def test_the_machine_knows_its_disk_memory_and_tools(tmp_path: Path) -> None:
    machine = Machine()
    assert 0 < machine.disk(tmp_path).used_percent <= 100
    memory = machine.memory()
    assert 0 < memory.used_percent < 100
    assert memory.used + memory.free == memory.total
    assert machine.which("sh")
    assert machine.which("nonesuch-program") is None
    assert machine.run(["echo", "hi"]).stdout == "hi\n"
    with pytest.raises(OSError, match="nonesuch"):
        machine.disk("/nonesuch")


def test_a_repository_describes_its_release(tmp_path: Path) -> None:
    with git.Repo.init(tmp_path, initial_branch="trunk") as repo:
        repo.config_writer().set_value("user", "name", "x").set_value("user", "email", "x@example.invalid").release()
        assert Repo(tmp_path).release("v1", {}).commit is None
        for version in ("v1.9.0", "v1.10.0"):
            commit = repo.index.commit(version)
            repo.create_tag(version, message=version)
        found = Repo(tmp_path)
        release = found.release("v1.11.0", {})
        assert (release.commit, release.branch, release.tag, release.previous) == (
            commit.hexsha,
            "trunk",
            None,
            "v1.10.0",
        )
        assert found.release("v1.10.0", {}).tag == "v1.10.0"
        assert found.release("v1.10.0", {}).previous == "v1.9.0"
        assert found.is_clean
        (tmp_path / "new").touch()
        assert not Repo(tmp_path).is_clean
        repo.git.checkout("--detach")
        assert Repo(tmp_path).branch is None
        assert Repo(tmp_path).release("v1", {"GITHUB_REF_NAME": "main"}).branch == "main"


def test_outside_a_repository_nothing_is_known_and_it_says_why(tmp_path: Path) -> None:
    found = Repo(tmp_path)
    assert "not inside a git repository" in found.problem
    assert (found.commit, found.branch, found.tags, found.is_clean) == (None, None, {}, False)
    assert "does not exist" in Repo(tmp_path / "nonesuch").problem
