"""The service over HTTP, against real servers that delay, drop, truncate, trickle, redirect and answer each status."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from web import Answer, Handler, Web, drop, say, serving, silent, trickle, trickled_headers, truncated

from deploy_guard import ConfigurationError
from deploy_guard.config import load
from deploy_guard.probes import http
from deploy_guard.probes.service import Service, ServiceError, TryAgain, _has_route

CANARY = "canary-4711"


class Waits(list[float]):
    """Sleeps not at all, and keeps count."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(say()) as made:
        yield made


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def quick(url: str | None, waits: Waits | None = None, **more: object) -> Service:
    """A service that is asked without any waiting between attempts."""
    return Service(url, **{"timeout": 5, "log": lambda _: None, "sleep": Waits() if waits is None else waits, **more})  # type: ignore[arg-type]


# The version


@pytest.mark.parametrize(
    ("body", "path", "version"),
    [
        ('{"version": "v1.0.0"}', "version", "v1.0.0"),
        ('{"app": {"v": 2}}', "app.v", "2"),
        ('{"parts": [{"v": "a"}, {"v": "b"}]}', "parts.1.v", "b"),
        ('[{"v": "a"}]', "[0].v", "a"),
        ("v1.0.0\n", "version", "v1.0.0"),
        ('"v1.0.0"', "version", "v1.0.0"),
        ("1.10\n", "version", "1.10"),
    ],
)
def test_the_version_is_read_from_json_and_from_text(web: Web, body: str, path: str, version: str) -> None:
    web.answers = [say(200, body)]
    assert quick(web.url, version_path=path).version() == version


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"version": null}', "version"),
        ('{"version": ""}', "version"),
        ('{"version": true}', "version"),
        ('{"version": {"v": 1}}', "version"),
        ('{"parts": ["a"]}', "parts.1"),
        ('{"parts": ["a"]}', "parts.v"),
        ("", "version"),
    ],
)
def test_an_answer_without_a_version_is_an_error(web: Web, body: str, path: str) -> None:
    web.answers = [say(200, body)]
    with pytest.raises(ServiceError, match="/version: there is no "):
        quick(web.url, version_path=path).version()


def test_the_version_may_stand_in_a_header(web: Web) -> None:
    web.answers = [say(200, "<html>", X_Version="v1.2.3")]
    assert quick(web.url, version_header="x-version").version() == "v1.2.3"
    with pytest.raises(ServiceError, match="there is no header X-Build in the answer"):
        quick(web.url, version_header="X-Build").version()


def test_a_page_in_place_of_a_version_is_cut(web: Web) -> None:
    web.answers = [say(200, "<html>" + "x" * 5000)]
    assert len(quick(web.url).version()) == 200


# Attempts


def test_server_errors_drops_and_truncated_answers_are_tried_three_times(web: Web, waits: Waits) -> None:
    web.answers = [say(500, "broken"), drop, say(200)]
    said: list[str] = []
    assert quick(web.url, waits, log=said.append).get("/x").text == "ok"
    assert web.asked == ["/x"] * 3
    assert said[0].startswith(f"attempt 1 of 3 failed: GET {web.url}/x: status 500: broken; next in 0.")
    assert said[1].startswith(f"attempt 2 of 3 failed: GET {web.url}/x: ConnectionError (")
    assert said[2].startswith(f"GET {web.url}/x: status 200, 2 bytes")
    assert 0.2 <= waits[0] <= 0.4 <= waits[1] <= 0.6, "exponential, with jitter"
    web.answers = [truncated]
    with pytest.raises(ServiceError, match=r"/x: ProtocolError"):
        quick(web.url).get("/x")
    assert len(web.asked) == 6


def test_an_answer_that_is_no_http_is_tried_again(web: Web) -> None:
    web.answers = [say(200, b"x", Content_Length="1, 2"), lambda handler: print_raw(handler, b"hello\r\n"), say(200)]
    assert quick(web.url).get("/x").text == "ok"


def print_raw(handler: Handler, raw: bytes) -> None:
    handler.wfile.write(raw)


def test_the_last_attempt_is_logged_too(web: Web) -> None:
    web.answers = [say(503, "down")]
    said: list[str] = []
    with pytest.raises(ServiceError, match="status 503: down"):
        quick(web.url, log=said.append).get("/x")
    assert len(web.asked) == len(said) == 3
    assert said[2].endswith("; it was the last")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 429, 304, 300])
def test_a_client_error_fails_at_once_and_the_query_is_not_repeated(web: Web, waits: Waits, status: int) -> None:
    web.answers = [say(status, b"" if status == 304 else b"nobody here", Retry_After="1")]
    said: list[str] = []
    with pytest.raises(ServiceError, match=f"status {status}") as error:
        quick(web.url, waits, log=said.append).get(f"/x?token={CANARY}")
    assert len(web.asked) == 1
    assert waits == []
    assert said[0].endswith("; it is not tried again")
    assert CANARY not in str(error.value) + said[0]


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599])
def test_every_server_error_is_tried_again(web: Web, status: int) -> None:
    web.answers = [say(status), say(200)]
    assert quick(web.url).get("/x").status_code == 200


def test_a_service_that_is_not_there_is_told_without_its_query() -> None:
    with pytest.raises(ServiceError, match=r"ConnectionError \(connection refused\)") as error:
        quick("http://127.0.0.1:1").get(f"/x?token={CANARY}")
    assert CANARY not in str(error.value)


def test_a_name_that_is_not_known_is_told() -> None:
    with pytest.raises(ServiceError, match=r"GET http://nonesuch\.invalid/x: ConnectionError"):
        quick("http://nonesuch.invalid").get("/x")


def test_without_a_url_the_error_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set SERVICE_URL"):
        quick(None).get("/")
    config = load(None, directory=tmp_path).for_env("dev")
    assert Service.of(config, {"SERVICE_URL": "http://h/base"}).url("/x") == "http://h/base/x"


# Retry-After


def test_retry_after_is_honoured_as_seconds_and_as_a_date(web: Web, waits: Waits) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
    web.answers = [say(503, Retry_After="3"), say(503, Retry_After=date), say(200)]
    assert quick(web.url, waits).get("/x").status_code == 200
    assert waits[0] == 3
    assert 2 < waits[1] <= 4


def test_retry_after_beyond_the_deadline_ends_the_attempts(web: Web, waits: Waits) -> None:
    web.answers = [say(503, Retry_After="120")]
    said: list[str] = []
    with pytest.raises(ServiceError, match="it asks to wait 120 s"):
        quick(web.url, waits, log=said.append).get("/x")
    assert (len(web.asked), waits) == (1, [])
    assert "would be past the deadline of 5 s" in said[0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("7", 7),
        ("9" * 5000, 999999999),
        ("Thu, 01 Jan 1970 00:00:20 GMT", 10),
    ],
)
def test_forms_of_retry_after(value: str | None, seconds: float) -> None:
    assert http.retry_after(value, now=10) == seconds


# Deadlines and size


@pytest.mark.parametrize("answer", [silent, trickle, trickled_headers])
def test_an_answer_that_never_ends_is_ended_by_the_deadline(web: Web, answer: Answer) -> None:
    web.answers = [answer]
    threads = threading.active_count()
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"ReadTimeout|no whole answer within the deadline of 0\.4 s"):
        quick(web.url, timeout=0.4).get("/x")
    assert time.monotonic() - began < 5
    assert threading.active_count() <= threads + 1, "only the server's own thread is left"


def test_a_slow_answer_within_the_deadline_is_an_answer(web: Web) -> None:
    def slow(handler: object) -> None:
        time.sleep(0.1)
        say(200, "late")(handler)  # type: ignore[arg-type]

    web.answers = [slow]
    assert quick(web.url).get("/x").text == "late"


def test_an_answer_without_end_in_size_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST", 1024 * 1024)
    web.answers = [say(200, b"x" * (1024 * 1024 + 1))]
    with pytest.raises(ServiceError, match="larger than 1 MiB") as error:
        quick(web.url).get("/x")
    assert not isinstance(error.value, TryAgain)
    web.answers = [say(200, b"x" * (1024 * 1024))]
    assert len(quick(web.url).get("/x").content) == 1024 * 1024


# Headers, redirects, credentials

SECRET = {"Authorization": "Bearer ${TOKEN}", "X-Api-Key": "${API_KEY}", "X-Team": "shop", "Cookie": "sid=${TOKEN}"}
VALUES = {"TOKEN": CANARY, "API_KEY": "canary-4712"}


def test_configured_headers_are_sent_with_the_values_of_their_variables(web: Web) -> None:
    quick(web.url, headers=SECRET, environ=VALUES).get("/x", headers={"X-More": "1"})
    sent = web.headers[0]
    assert (sent["authorization"], sent["x-api-key"]) == (f"Bearer {CANARY}", "canary-4712")
    assert (sent["x-team"], sent["x-more"], sent["cookie"]) == ("shop", "1", f"sid={CANARY}")


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "TOKEN, which is not set"), (" ", "not set, or blank"), ("x\n", "line break"), ("ü", "line")],
)
def test_a_variable_that_makes_no_header_is_told_at_first_use_and_not_shown(web: Web, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        quick(web.url, headers={"Authorization": "Bearer ${TOKEN}"}, environ={"TOKEN": value}).get("/x")
    assert "service-headers.Authorization" in str(error.value)
    assert web.asked == []


def test_redirects_to_another_host_drop_the_credentials(web: Web) -> None:
    with serving(say(200, "there"), address="127.0.0.2") as other:
        web.answers = [say(302, Location=f"{other.url}/y", Set_Cookie="session=canary; Path=/")]
        assert quick(web.url, headers=SECRET, environ=VALUES).get("/x").text == "there"
        sent = other.headers[0]
        assert not {"authorization", "x-api-key", "cookie"} & set(sent), sent
        assert sent["x-team"] == "shop"
        assert sent["host"] == f"127.0.0.2:{other.port}"


def test_redirects_to_another_port_are_to_another_host(web: Web) -> None:
    with serving(say(200, "there")) as other:
        web.answers = [say(307, Location=f"{other.url}/y")]
        quick(web.url, headers=SECRET, environ=VALUES).get("/x")
        assert "authorization" not in other.headers[0]


def test_redirects_within_the_host_keep_credentials_and_cookies(web: Web) -> None:
    web.answers = [say(302, Location="/y", Set_Cookie="seen=1; Path=/"), say(200, "there")]
    assert quick(web.url, headers={"X-Api-Key": "${API_KEY}"}, environ=VALUES).get("/x").text == "there"
    assert web.asked == ["/x", "/y"]
    assert web.headers[1]["x-api-key"] == "canary-4712"
    assert web.headers[1]["cookie"] == "seen=1"


def test_redirects_in_a_circle_fail_at_once(web: Web) -> None:
    web.answers = [say(302, Location=f"/x?token={CANARY}")]
    with pytest.raises(ServiceError, match="more than 10 redirects") as error:
        quick(web.url).get("/x")
    assert len(web.asked) == 11
    assert CANARY not in str(error.value)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/x"])
def test_redirects_out_of_http_are_refused(web: Web, target: str) -> None:
    web.answers = [say(302, Location=target)]
    with pytest.raises(ServiceError, match="no http:// or https:// URL"):
        quick(web.url).get("/x")


def test_a_full_url_of_a_stranger_gets_no_configured_headers(web: Web) -> None:
    with serving(say(200, "v1")) as other:
        quick(web.url, headers=SECRET, environ=VALUES).get(f"{other.url}/x")
        assert "authorization" not in other.headers[0]


def test_netrc_is_not_used(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text(f"default login somebody password {CANARY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    web.answers = [say(302, Location="/y"), say(200)]
    quick(web.url).get("/x")
    assert all("authorization" not in sent for sent in web.headers)


def test_the_proxy_of_the_environment_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", web.url)
    monkeypatch.setenv("http_proxy", web.url)
    web.answers = [say(200, "v1")]
    assert quick("http://shop.invalid").get("/x").text == "v1"
    assert web.asked == ["http://shop.invalid/x"]
    assert quick("http://shop.invalid").versions(2) == {"through the proxy": ("v1", "v1")}


def test_a_url_that_can_not_be_asked_fails_at_once(waits: Waits) -> None:
    with pytest.raises(ServiceError, match="nothing was asked"):
        quick("http://a..b", waits).get("/x")
    assert waits == []


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


def test_a_good_certificate_is_evidence(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    expires = datetime.now(UTC) + timedelta(days=10)
    leaf = ca.issue_cert("localhost", common_name="shop", not_after=expires)
    with serving(say(302, Location="http://elsewhere.invalid/"), tls=context(leaf)) as web:
        certificate = quick(web.url, ca_bundle=path).certificate
        assert certificate.subject == "shop"
        assert "Testing CA" in certificate.issuer
        assert abs((certificate.not_after - expires).total_seconds()) < 2
        assert 9.9 < certificate.days_left < 10


def test_the_authorities_of_the_environment_count(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, path = authority
    with serving(say(200, "v1"), tls=context(ca.issue_cert("localhost"))) as web:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        assert quick(web.url).version() == "v1"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonesuch.pem")
        with pytest.raises(ServiceError, match=r"CA certificate bundle, invalid path: /nonesuch\.pem"):
            quick(web.url).version()
        with pytest.raises(ConfigurationError, match=r"ca-bundle: /nonesuch\.pem does not exist"):
            quick(web.url, ca_bundle=Path("/nonesuch.pem")).version()


def test_an_expired_certificate_is_refused_at_once_with_the_reason(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    past = datetime.now(UTC) - timedelta(days=1)
    leaf = ca.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)
    with serving(say(200), tls=context(leaf)) as web:
        with pytest.raises(ServiceError, match="certificate is not accepted: certificate has expired") as error:
            quick(web.url, ca_bundle=path).get("/x")
        assert not isinstance(error.value, TryAgain)
        with pytest.raises(ServiceError, match="certificate has expired"):
            _ = quick(web.url, ca_bundle=path).certificate
        assert web.asked == []


def test_a_self_signed_certificate_is_refused_with_the_reason(tmp_path: Path) -> None:
    ca = trustme.CA()
    with ca.cert_pem.tempfile() as cert, ca.private_key_pem.tempfile() as key:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(cert, key)
    with serving(say(200), tls=made) as web, pytest.raises(ServiceError, match="not accepted: self-signed certificate"):
        quick(web.url).get("/x")


def test_a_certificate_for_another_name_or_of_a_strange_authority_is_refused(
    authority: tuple[trustme.CA, Path],
) -> None:
    ca, path = authority
    with serving(say(200), tls=context(ca.issue_cert("other.invalid"))) as web:
        with pytest.raises(ServiceError, match=r"Hostname mismatch.*not valid for 'localhost'"):
            quick(web.url, ca_bundle=path).get("/x")
        with pytest.raises(ServiceError, match="unable to get local issuer certificate"):
            quick(web.url).get("/x")


def test_redirects_out_of_tls_are_not_followed(authority: tuple[trustme.CA, Path], web: Web) -> None:
    ca, path = authority
    with serving(say(302, Location=f"{web.url}/x"), tls=context(ca.issue_cert("localhost"))) as tls:
        with pytest.raises(ServiceError, match="out of TLS"):
            quick(tls.url, ca_bundle=path).get("/x")
        assert web.asked == []


def test_tls_to_an_address_is_verified_for_the_name(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    with serving(say(200, "v1"), tls=context(ca.issue_cert("shop.invalid"))) as web:
        url = f"https://shop.invalid:{web.port}"
        found = quick(url, ca_bundle=path, resolve=lambda *_: ["127.0.0.1"]).versions(2)
        assert found == {"127.0.0.1": ("v1", "v1")}
        assert web.headers[0]["host"] == f"shop.invalid:{web.port}"
        with pytest.raises(ServiceError, match=r"127\.0\.0\.1: GET https://another\.invalid.*Hostname mismatch"):
            quick(f"https://another.invalid:{web.port}", ca_bundle=path, resolve=lambda *_: ["127.0.0.1"]).versions(1)


def test_without_tls_there_is_no_certificate(web: Web) -> None:
    assert not quick(web.url).has_tls
    with pytest.raises(ServiceError, match="not asked over https"):
        _ = quick(web.url).certificate


def test_a_server_that_speaks_no_tls_is_a_network_error(web: Web) -> None:
    with pytest.raises(ServiceError, match="SSLError"):
        quick(web.url.replace("http:", "https:")).get("/x")


# Every address behind the name


@pytest.fixture
def two() -> Iterator[tuple[Web, Web]]:
    with serving(say(200, "v2")) as one, serving(say(200, "v2"), address="127.0.0.2", port=one.port) as other:
        yield one, other


def named(web: Web, *addresses: str, samples: int = 3) -> Service:
    return quick(f"http://shop.invalid:{web.port}", resolve=lambda *_: addresses, samples=samples)


def test_every_address_is_asked_several_times(two: tuple[Web, Web]) -> None:
    found = named(two[0], "127.0.0.1", "127.0.0.2", samples=2).versions()
    assert found == {"127.0.0.1": ("v2", "v2"), "127.0.0.2": ("v2", "v2")}
    assert [len(web.asked) for web in two] == [2, 2]
    assert two[1].headers[0]["host"] == f"shop.invalid:{two[1].port}"


def test_one_address_with_the_old_version_is_seen_and_so_is_one_sample(two: tuple[Web, Web]) -> None:
    two[1].answers = [say(200, "v2"), say(200, "v1"), say(200, "v2")]
    found = named(two[0], "127.0.0.1", "127.0.0.2").versions()
    assert found == {"127.0.0.1": ("v2",) * 3, "127.0.0.2": ("v2", "v1", "v2")}


def test_an_address_that_does_not_answer_is_named_and_the_others_are_still_asked(two: tuple[Web, Web]) -> None:
    two[0].answers = [say(404)]
    with pytest.raises(ServiceError) as error:
        named(two[0], "127.0.0.1", "127.0.0.2", "127.0.0.3").versions(2)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["127.0.0.1", "127.0.0.3"]
    assert "status 404" in lines[0]
    assert "connection refused" in lines[1]
    assert len(two[1].asked) == 2


def test_an_address_that_sends_us_elsewhere_does_not_serve(two: tuple[Web, Web]) -> None:
    two[1].answers = [say(302, Location=f"{two[0].url}/version")]
    with pytest.raises(ServiceError, match=r"127\.0\.0\.2: .* which is another host"):
        named(two[0], "127.0.0.1", "127.0.0.2").versions()


def test_addresses_of_ipv6_are_asked(two: tuple[Web, Web]) -> None:
    with serving(say(200, "v1"), address="::1", port=two[0].port):
        assert named(two[0], "127.0.0.1", "::1").versions(1) == {"127.0.0.1": ("v2",), "::1": ("v1",)}


def test_an_address_without_a_route_is_left_out_unless_it_is_the_only_one(
    two: tuple[Web, Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy_guard.probes.service._has_route", lambda address, _: address == "127.0.0.1")
    assert named(two[0], "127.0.0.1", "127.0.0.2").versions(1) == {"127.0.0.1": ("v2",), "127.0.0.2": ()}
    assert named(two[0], "127.0.0.2").versions(1) == {"127.0.0.2": ("v2",)}


@pytest.mark.parametrize(
    ("code", "routed"), [(errno.ENETUNREACH, False), (errno.EAFNOSUPPORT, False), (errno.EACCES, True), (0, True)]
)
def test_a_route_is_missing_only_where_the_system_says_so(
    monkeypatch: pytest.MonkeyPatch, code: int, routed: bool
) -> None:
    class Probe(socket.socket):
        def connect(self, _: object) -> None:
            if code:
                raise OSError(code, "x")

    monkeypatch.setattr(socket, "socket", Probe)
    assert _has_route("127.0.0.1", 80) is routed


def test_a_name_without_addresses_is_an_error(waits: Waits) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(ServiceError, match=r"shop\.invalid has no address: Name or service not known"):
        quick("http://shop.invalid", waits, resolve=unknown).versions()
    assert len(waits) == 2
    with pytest.raises(ServiceError, match=r"shop\.invalid has no address"):
        quick("http://shop.invalid", resolve=lambda *_: []).versions()
    with pytest.raises(ValueError, match="samples=0"):
        quick("http://shop.invalid").versions(0)


def test_the_systems_own_addresses_are_each_named_once(web: Web) -> None:
    assert quick(f"http://localhost:{web.port}").addresses().count("127.0.0.1") == 1
    assert quick("https://127.0.0.1").addresses() == ["127.0.0.1"]


# The clock


@pytest.mark.parametrize(("ahead", "low", "high"), [(0, 0, 0.2), (-60, 57, 61), (60, -61, -57)])
def test_clock_skew_is_told_with_its_direction(web: Web, ahead: int, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    web.answers = [say(404, Date=date)]
    assert low <= quick(web.url).clock_skew() <= high


def test_the_age_of_a_cached_answer_is_no_skew(web: Web) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    web.answers = [say(200, Date=date, Age="60")]
    assert abs(quick(web.url).clock_skew()) < 2


def test_without_a_date_there_is_no_skew_to_tell(web: Web) -> None:
    web.answers = [say(200, Date="yesterday")]
    with pytest.raises(ServiceError, match="no Date header"):
        quick(web.url).clock_skew()
