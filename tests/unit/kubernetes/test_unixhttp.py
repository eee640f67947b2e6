"""HTTP over a unix socket, against a socket that a test writes every byte to."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.unixhttp import Lost, NotSent, Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """A listening socket; ``connections`` counts those that came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.heard = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)

    def serve(self, talk: Callable[[socket.socket], None]) -> None:
        def accept() -> None:
            while True:
                try:
                    near, _ = self._listener.accept()
                except OSError:
                    return
                self.connections += 1
                threading.Thread(target=self._talk, args=(near, talk), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def hear(self, near: socket.socket) -> bytes:
        """One request without a body."""
        text = b""
        while b"\r\n\r\n" not in text:
            chunk = near.recv(65536)
            if not chunk:
                return b""
            text += chunk
        self.heard += text
        return text

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _talk(self, near: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        with near:
            talk(near)


@pytest.fixture
def peer() -> Iterator[Peer]:
    folder = Path(tempfile.mkdtemp())
    made = Peer(folder / "s")
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def pool(peer: Peer) -> Iterator[Pool]:
    made = Pool(peer.path)
    yield made
    made.close()


def soon(seconds: float = 5) -> Deadline:
    return Deadline.after(seconds)


def silent(_near: socket.socket) -> None:
    time.sleep(10)


def answering(peer: Peer, answer: bytes) -> Callable[[socket.socket], None]:
    def talk(near: socket.socket) -> None:
        while peer.hear(near):
            near.sendall(answer)

    return talk


def test_a_connection_is_kept_and_used_again(peer: Peer, pool: Pool) -> None:
    peer.serve(answering(peer, OK))
    for _ in range(3):
        answer = pool.request("GET", "/x", {"Accept": "*/*"}, None, soon())
        assert (answer.status, answer.body) == (200, b"ok")
    assert peer.connections == 1
    assert peer.heard.startswith(b"GET /x HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")


def test_a_connection_that_the_server_does_not_keep_is_not_used_again(peer: Peer, pool: Pool) -> None:
    peer.serve(answering(peer, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"))
    for _ in range(2):
        assert pool.request("GET", "/x", {}, None, soon()).body == b"ok"
    assert peer.connections == 2


def test_threads_have_connections_of_their_own(peer: Peer, pool: Pool) -> None:
    together = threading.Barrier(3)

    def talk(near: socket.socket) -> None:
        while peer.hear(near):
            together.wait(5)
            near.sendall(OK)

    peer.serve(talk)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(pool.request("GET", "/x", {}, None, soon()).body))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"ok"] * 3
    assert peer.connections == 3


def test_a_body_in_chunks_is_put_together_however_it_comes(peer: Peer, pool: Pool) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"3;name=value\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"

    def talk(near: socket.socket) -> None:
        while peer.hear(near):
            for at in range(len(answer)):
                near.sendall(answer[at : at + 1])

    peer.serve(talk)
    for _ in range(2):
        assert pool.request("GET", "/x", {}, None, soon()).body == b"abc0123456789"
    assert peer.connections == 1


def test_a_large_body_goes_out_and_comes_back(peer: Peer, pool: Pool) -> None:
    body = bytes(range(256)) * 20_000

    def talk(near: socket.socket) -> None:
        heard = b""
        while len(heard) < len(body):
            heard += near.recv(1 << 20)
        sent = heard[heard.index(b"\r\n\r\n") + 4 :]
        while len(sent) < len(body):
            sent += near.recv(1 << 20)
        near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)

    peer.serve(talk)
    assert pool.request("POST", "/x", {}, body, soon(20)).body == body


def test_a_socket_that_is_not_there_was_sent_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotSent, match="No such file"):
        Pool(tmp_path / "none").request("GET", "/x", {}, None, soon())


def test_a_kept_connection_that_was_closed_meanwhile_was_sent_nothing(peer: Peer, pool: Pool) -> None:
    def talk(near: socket.socket) -> None:
        peer.hear(near)
        near.sendall(OK)

    peer.serve(talk)
    pool.request("GET", "/x", {}, None, soon())
    time.sleep(0.2)
    with pytest.raises(NotSent):
        pool.request("GET", "/x", {}, None, soon())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
    ],
)
def test_an_answer_that_is_not_whole_is_lost(peer: Peer, pool: Pool, answer: bytes) -> None:
    def talk(near: socket.socket) -> None:
        peer.hear(near)
        near.sendall(answer)

    peer.serve(talk)
    with pytest.raises(Lost):
        pool.request("GET", "/x", {}, None, soon())


def test_an_answer_that_does_not_come_is_lost_after_the_deadline(peer: Peer, pool: Pool) -> None:
    peer.serve(silent)
    started = time.monotonic()
    with pytest.raises(Lost, match=r"no answer within 0\.3 s"):
        pool.request("GET", "/x", {}, None, soon(0.3))
    assert 0.25 < time.monotonic() - started < 0.6


def test_a_request_that_nobody_reads_was_not_sent(peer: Peer, pool: Pool) -> None:
    peer.serve(silent)
    with pytest.raises(NotSent, match="no answer within"):
        pool.request("POST", "/x", {}, b"x" * 10_000_000, soon(0.3))


def test_an_answer_before_the_end_of_a_body_is_read(peer: Peer, pool: Pool) -> None:
    def talk(near: socket.socket) -> None:
        near.recv(1000)
        near.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        near.shutdown(socket.SHUT_RD)

    peer.serve(talk)
    answer = pool.request("POST", "/x", {}, b"x" * 10_000_000, soon())
    assert (answer.status, answer.body) == (413, b"big")


def test_lines_of_a_stream_come_as_they_are_sent(peer: Peer, pool: Pool) -> None:
    more = threading.Event()

    def talk(near: socket.socket) -> None:
        peer.hear(near)
        near.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\nt\r\n")
        more.wait(5)
        near.sendall(b"8\r\nwo\nthree\r\n0\r\n\r\n")

    peer.serve(talk)
    with pool.stream("/x", {}, soon()) as (answer, lines):
        assert answer.status == 200
        assert next(lines) == b"one"
        more.set()
        assert list(lines) == [b"two", b"three"]


def test_whoever_waits_looks_now_and_then_and_may_give_up(peer: Peer) -> None:
    looks: list[float] = []

    def look() -> None:
        looks.append(time.monotonic())
        if len(looks) == 2:
            raise Lost("enough")

    peer.serve(silent)
    pool = Pool(peer.path, look)
    with pytest.raises(Lost, match="enough"):
        pool.request("GET", "/x", {}, None, soon(10))
    assert looks[1] - looks[0] < 1


def test_closing_ends_those_who_wait(peer: Peer, pool: Pool) -> None:
    peer.serve(silent)
    threading.Timer(0.2, pool.close).start()
    started = time.monotonic()
    with pytest.raises(Lost):
        pool.request("GET", "/x", {}, None, soon(10))
    assert time.monotonic() - started < 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
def test_a_request_that_was_not_read_before_the_other_end_was_closed_was_not_sent(peer: Peer, pool: Pool) -> None:
    def talk(near: socket.socket) -> None:
        while len(near.recv(1 << 20, socket.MSG_PEEK)) < 1000:
            pass
        near.recv(10)

    peer.serve(talk)
    with pytest.raises(NotSent, match="reset"):
        pool.request("POST", "/x", {}, b"x" * 1000, soon())
