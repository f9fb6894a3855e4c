"""Small servers on this machine that speak the protocols of the hubs, so the real clients are tested against them."""

from __future__ import annotations

import base64
import dataclasses
import gc
import hashlib
import http.server
import json
import re
import subprocess
import threading
import time
import types
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789" * 4


@dataclasses.dataclass
class Request:
    """A request as a server got it.

    Attributes:
        server: Which server: "hub", or "store" where large files lie.
    """

    server: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclasses.dataclass
class Answer:
    """What a server sends.

    Attributes:
        sent_bytes: The connection breaks off after so many bytes of the body; None for all.
        hold: Waited for, when it breaks off, before the connection is closed.
        delay_seconds: The time before anything is sent.
    """

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    sent_bytes: int | None = None
    hold: threading.Event | None = None
    delay_seconds: float = 0


class LocalServer:
    """An HTTP server in a thread; `answer` tells what a request gets, unless `faults` has something for it.

    Attributes:
        requests: What came, in order; servers that belong together share the list.
        faults: (pattern of "METHOD path", what to send instead) in order; each is used once.
    """

    def __init__(self, name: str, answer: Callable[[Request], Answer], requests: list[Request]) -> None:
        self.requests, self.faults = requests, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                headers = {key.lower(): value for key, value in self.headers.items()}
                request = Request(name, self.command, self.path, headers, body)
                requests.append(request)
                outer._send(self, outer._fault(request) or answer(request))

            do_GET = do_HEAD = do_POST = respond

            def log_message(self, *args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                """A client that was killed, or gave up, is no news."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _fault(self, request: Request) -> Answer | None:
        for index, (pattern, answer) in enumerate(self.faults):
            if re.search(pattern, f"{request.method} {request.path}"):
                del self.faults[index]
                return answer
        return None

    @staticmethod
    def _send(handler: http.server.BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.delay_seconds:
            threading.Event().wait(answer.delay_seconds)
        handler.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if answer.sent_bytes is None:
            handler.wfile.write(answer.body)
            return
        handler.wfile.write(answer.body[: answer.sent_bytes])
        handler.wfile.flush()
        if answer.hold:
            answer.hold.wait(120)
        handler.close_connection = True

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def _refusing(status: int, headers: dict[str, str] | None = None) -> Answer:
    """An answer without content."""
    return Answer(status, headers or {})


def _content(
    body: bytes,
    sent_bytes: int | None = None,
    hold: threading.Event | None = None,
    headers: dict[str, str] | None = None,
    delay_seconds: float = 0,
) -> Answer:
    """A file's whole content, whatever part is asked for; cut off after `sent_bytes`."""
    return Answer(200, headers or {}, body, sent_bytes, hold, delay_seconds)


def part_of(body: bytes, request: Request) -> Answer:
    """A body, or the part of it that the request's Range asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if match is None:
        return Answer(headers={"Accept-Ranges": "bytes"}, body=body)
    first, last = int(match[1]), int(match[2] or len(body) - 1)
    span = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return Answer(206, span, body[first : last + 1])


class FakeHub:
    """The Hugging Face Hub with one repository, ORG/tiny, and the other host where its large files lie.

    Attributes:
        files: Content by name. Those in `large` lie on the other host and have a sha256, the others are git objects.
        card: The head of the model card.
        refusal: Answers everything, where it is set.
    """

    answer, content = staticmethod(_refusing), staticmethod(_content)

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.files: dict[str, bytes] = {}
        self.large: set[str] = set()
        self.card: dict[str, Any] = {"license": "gemma"}
        self.commit = COMMIT
        self.refusal: Answer | None = None
        self.hub = LocalServer("hub", self._answer_hub, self.requests)
        self.store = LocalServer("store", self._answer_store, self.requests)

    def add(self, name: str, content: bytes, *, large: bool = False) -> None:
        self.files[name] = content
        if large:
            self.large.add(name)

    def digest(self, name: str) -> str:
        content = self.files[name]
        if name in self.large:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def downloads(self, name: str) -> list[Request]:
        """The requests for a file's content."""
        return [request for request in self.requests if request.method == "GET" and request.path.endswith(f"/{name}")]

    def close(self) -> None:
        self.hub.close()
        self.store.close()

    def _answer_hub(self, request: Request) -> Answer:
        path = urllib.parse.unquote(request.path.partition("?")[0])
        if self.refusal:
            return self.refusal
        match = re.fullmatch(r"/api/models/ORG/tiny(?:/revision/(?P<revision>.+))?", path)
        if match:
            if match["revision"] not in (None, "main", "v1", self.commit):
                return Answer(404, {"X-Error-Code": "RevisionNotFound"})
            return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(self._listing()).encode())
        match = re.fullmatch(r"/ORG/tiny/resolve/(?P<revision>[^/]+)/(?P<name>.+)", path)
        if match is None:
            return Answer(404, {"X-Error-Code": "RepoNotFound"})
        name = match["name"]
        if name not in self.files:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.commit})
        headers = {"X-Repo-Commit": self.commit, "ETag": f'"{self.digest(name)}"'}
        if name not in self.large:
            return Answer(headers=headers, body=self.files[name])
        linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(self.files[name]))}
        return Answer(302, {**headers, **linked, "Location": f"{self.store.url}/signed/{name}"})

    def _listing(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": "f" * 40}
            if name in self.large:
                entry["lfs"] = {"sha256": self.digest(name), "size": len(content), "pointerSize": 130}
            else:
                entry["blobId"] = self.digest(name)
            siblings.append(entry)
        return {
            "id": "ORG/tiny",
            "modelId": "ORG/tiny",
            "sha": self.commit,
            "siblings": siblings,
            "cardData": self.card,
        }

    def _answer_store(self, request: Request) -> Answer:
        return part_of(self.files[request.path.removeprefix("/signed/")], request)


def until_it_has(partial: Path, num_bytes: int, child: subprocess.Popen[Any]) -> None:
    """Wait until a child process has written so much of a file; it fails where it ends before, or takes 30 s."""
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size >= num_bytes):
        assert time.monotonic() < deadline, "the child downloads nothing"
        assert child.poll() is None, "the child ended by itself"
        threading.Event().wait(0.02)


@pytest.fixture
def wait_for_part() -> Callable[[Path, int, subprocess.Popen[Any]], None]:
    """See `until_it_has`."""
    return until_it_has


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches in a folder of the test's own, and no tokens."""
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "gemcut"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def fake_hub(caches, monkeypatch) -> Iterator[FakeHub]:
    """A hub with a small model, which the real client of this process talks to without waiting between tries."""
    client = pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    hub = FakeHub()
    hub.add("config.json", b'{"model_type": "gemma3_text"}')
    hub.add("README.md", b"---\nlicense: gemma\n---\n")
    hub.add("tokenizer.model", bytes(range(256)) * 40, large=True)
    hub.add("model.safetensors", bytes(range(251)) * 4000, large=True)
    hub.add("original/consolidated.00.pth", b"the same again", large=True)
    hub.add("pytorch_model.bin", b"the same again", large=True)
    monkeypatch.setattr(client.constants, "ENDPOINT", hub.hub.url)
    template = hub.hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(client.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(client.constants, "HF_TOKEN_PATH", str(caches / "no-token"))
    hub.waits = []
    clock = types.SimpleNamespace(sleep=hub.waits.append, time=time.time, monotonic=time.monotonic)
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("gemcut.hub.transfer.time", clock)
    yield hub
    _http.close_session()
    hub.close()


def _collect_connections() -> None:
    """Let go of the connections that a client left open, before a test that minds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class FakeKaggle:
    """Kaggle with one model, google/tiny/transformers/base, and the other host where files lie.

    Attributes:
        files: Content by name.
        refusal: Answers everything, where it is set.
    """

    answer, content = staticmethod(_refusing), staticmethod(_content)

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.files: dict[str, bytes] = {}
        self.version, self.licence, self.page_files = 2, "Gemma", 2
        self.refusal: Answer | None = None
        self.api = LocalServer("api", self._answer_api, self.requests)
        self.store = LocalServer("store", self._answer_store, self.requests)

    def downloads(self, name: str) -> list[Request]:
        """The requests for a file's content at the host where it lies."""
        return [request for request in self.requests if request.path == f"/signed/{name}"]

    def close(self) -> None:
        self.api.close()
        self.store.close()

    def _answer_api(self, request: Request) -> Answer:
        if self.refusal:
            return self.refusal
        asked = json.loads(request.body)
        if asked["modelSlug"] != "tiny" or asked.get("versionNumber", 1) > self.version:
            return Answer(404)
        match request.path.rpartition("/")[2]:
            case "GetModelInstance":
                return _json({"versionNumber": self.version, "licenseName": self.licence})
            case "ListModelInstanceVersionFiles":
                first = int(asked.get("pageToken") or 0)
                page = list(self.files.items())[first : first + self.page_files]
                following = first + self.page_files
                token = str(following) if following < len(self.files) else ""
                files = [{"name": name, "size": len(content)} for name, content in page]
                return _json({"files": files, "nextPageToken": token})
            case "DownloadModelInstanceVersion":
                return Answer(302, {"Location": f"{self.store.url}/signed/{asked['path']}"})
        return Answer(404)

    def _answer_store(self, request: Request) -> Answer:
        content = self.files[request.path.removeprefix("/signed/")]
        answer = part_of(content, request)
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        answer.headers |= {"x-goog-hash": f"crc32c=AAAAAA==,md5={digest}", "Accept-Ranges": "bytes"}
        return answer


def _json(value: Any) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(value).encode())


@pytest.fixture
def fake_kaggle(caches, monkeypatch) -> Iterator[FakeKaggle]:
    """A Kaggle with a small model, which the real client of this process talks to without waiting between tries."""
    pytest.importorskip("kagglehub", reason="the kaggle extra is not installed")
    from kagglesdk import kaggle_env

    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(caches / "no-kaggle"))
    server = FakeKaggle()
    server.files = {
        "config.json": b'{"model_type": "gemma3_text"}',
        "tokenizer/vocabulary.spm": bytes(range(256)) * 40,
        "model.safetensors": bytes(range(251)) * 16_000,
    }
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.api.url)
    server.waits = []
    clock = types.SimpleNamespace(sleep=server.waits.append, monotonic=time.monotonic)
    monkeypatch.setattr("gemcut.hub.transfer.time", clock)
    yield server
    server.close()
    _collect_connections()


class FakeStorage:
    """Google Cloud Storage with one bucket called bucket, by its JSON interface.

    Attributes:
        files: Content by object name.
        generation: Version of every object.
    """

    answer, content = staticmethod(_refusing), staticmethod(_content)

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.files: dict[str, bytes] = {}
        self.generation = 1
        self.refusal: Answer | None = None
        self.server = LocalServer("storage", self._answer, self.requests)

    def downloads(self, name: str) -> list[Request]:
        """The requests for an object's content."""
        path = urllib.parse.quote(name, safe="")
        return [
            request for request in self.requests if request.path.startswith(f"/download/storage/v1/b/bucket/o/{path}?")
        ]

    def close(self) -> None:
        self.server.close()

    def crc32c(self, content: bytes) -> str:
        import google_crc32c

        return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()

    def _answer(self, request: Request) -> Answer:
        if self.refusal:
            return self.refusal
        path, _, query = request.path.partition("?")
        options = urllib.parse.parse_qs(query)
        if path == "/storage/v1/b/bucket/o":
            prefix = options["prefix"][0]
            return _json({"items": [self._item(name) for name in self.files if name.startswith(prefix)]})
        match = re.fullmatch(r"/download/storage/v1/b/bucket/o/(.+)", path)
        if match is None:
            return Answer(404)
        if options.get("ifGenerationMatch") != [str(self.generation)]:
            return Answer(412)
        return part_of(self.files[urllib.parse.unquote(match[1])], request)

    def _item(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        return {
            "name": name,
            "bucket": "bucket",
            "size": str(len(content)),
            "generation": str(self.generation),
            "crc32c": self.crc32c(content),
            "mediaLink": f"{self.server.url}/download/storage/v1/b/bucket/o/{urllib.parse.quote(name, safe='')}?alt=media",
        }


@pytest.fixture
def fake_storage(caches, monkeypatch) -> Iterator[FakeStorage]:
    """A storage with a small model, which the real client of this process talks to without waiting between tries."""
    pytest.importorskip("google.cloud.storage", reason="the gcs extra is not installed")
    from google.api_core.retry import retry_unary

    server = FakeStorage()
    server.files = {
        "models/tiny/": b"",
        "models/tiny/config.json": b"{}",
        "models/tiny/weights/part-0": bytes(range(251)) * 4000,
        "models/tiny2/config.json": b"another model",
    }
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.server.url)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    server.waits = []
    clock = types.SimpleNamespace(sleep=server.waits.append, monotonic=time.monotonic)
    monkeypatch.setattr("gemcut.hub.transfer.time", clock)
    monkeypatch.setattr(retry_unary, "time", clock)
    yield server
    server.close()
    _collect_connections()
