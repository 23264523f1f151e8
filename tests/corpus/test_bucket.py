"""A store in a bucket: a real S3 server, which may refuse requests, cut connections or be slow."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign_files import COMMAND, rows

from shstk.corpus.store import Store

moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'shstk[test]'")
serving = pytest.importorskip("werkzeug.serving")

FORBIDDEN = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Server:
    """S3 on this machine. Every `refused`-th request fails, in turns by 503 and by a reset."""

    def __init__(self) -> None:
        self.refused, self.seconds, self.requests, self.refusals = 0, 0.0, 0, 0
        self._moto = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = serving.make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._lock = threading.Lock()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        request = urllib.request.Request(f"{self.address}/bucket", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    def store(self, path: str, user: str = "somebody:secret", bucket: str = "bucket") -> str:
        return f"s3://{user}@{bucket}/{path}?endpoint_override={self.address}&region=us-east-1"

    def close(self) -> None:
        self._server.shutdown()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.requests += 1
            refuse = bool(self.refused) and self.requests % self.refused == 0
            self.refusals += refuse
            reset = refuse and self.refusals % 2 == 0
        time.sleep(self.seconds)
        if "Credential=nobody" in environ.get("HTTP_AUTHORIZATION", ""):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [FORBIDDEN]
        if reset:
            wire: socket.socket = environ["werkzeug.socket"]
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()
            start("500 Gone", [])  # nobody receives it
            return [b""]
        if refuse:
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [BUSY]
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("no_proxy", "127.0.0.1")
        made = Server()
        yield made
        made.close()


@pytest.fixture(autouse=True)
def willing(server: Server) -> None:
    server.refused, server.seconds = 0, 0.0


def said(*words: object) -> tuple[int, str, str]:
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_campaign_whose_bucket_refuses_and_is_slow(
    server: Server, undisturbed: Path, tmp_path: Path
) -> None:
    """A quarter of the cells by a driver that is killed; one that does half, and so has some left
    however far the first one came."""
    server.refused, server.seconds = 10, 0.02
    place = server.store("some/campaign")
    words = ("run", undisturbed / "CORPUS.toml", "-o", place, "--keep", "findings", "--shard")
    driver = subprocess.Popen([*COMMAND, *map(str, words), "1/4"], stderr=subprocess.DEVNULL)
    store = Store(place)
    while not store.done() and driver.poll() is None:
        time.sleep(0.2)
    driver.kill()
    driver.wait()
    first = len(store.done())
    code, out, err = said(*words, "1/2", "--format", "json")
    assert (code, err) == (1, "")
    whole = json.loads(out)
    assert first > 0
    assert 0 < whole["executed"] <= 24 - first
    assert "secret" not in out
    assert server.refusals > 5
    server.refused = 0
    mine = rows(place)
    assert len(mine) == store.every().collect().height == 24
    assert [row for row in rows(undisturbed / "CORPUS.store") if row in mine] == mine
    code, out, _ = said("query", place, "SELECT count(*) AS n FROM findings", "--format", "json")
    findings = sum(len(row["findings"]) for row in mine)
    assert findings > 0
    assert (code, json.loads(out)) == (0, [{"n": findings}])
    kept = {info.base_name for info in store.listed("kept")}
    assert kept == {f"{row['run']}.run.tar" for row in mine if row["causes"]}
    assert said("merge", place, "-o", tmp_path / "here")[0] == 0
    assert rows(tmp_path / "here") == mine


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bucket": "nowhere"}, "The specified bucket does not exist"),
        ({"user": "nobody:secret"}, "no such key"),
    ],
)
def test_a_wrong_bucket_or_key(
    server: Server, undisturbed: Path, wrong: dict[str, str], message: str
) -> None:
    place = server.store("x", **wrong)
    code, out, err = said("run", undisturbed / "CORPUS.toml", "-o", place)
    assert (code, out) == (3, "")
    assert message in err
    assert "secret" not in err


def test_what_is_no_place() -> None:
    for place in ("s3://", "s3://bucket/x?regoin=a", "ftp://host/x"):
        code, _, err = said("report", place)
        assert code == 2
        assert place in err
