"""Pulling from the Hugging Face Hub, by its real client, from a server on this machine."""

import concurrent.futures
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from gemcut.errors import DownloadError, MissingExtraError, NotFoundError, UsageError
from gemcut.hub import pull, resolve
from gemcut.hub.transfer import shutil as transfer_shutil


def weights_digest(hub) -> str:
    return hub.digest("model.safetensors")


def partial_of(caches, hub):
    return caches / "hf" / "models--ORG--tiny" / "blobs" / f"{weights_digest(hub)}.gemcut.incomplete"


def leave_partial(caches, hub, num_bytes: int):
    partial = partial_of(caches, hub)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(hub.files["model.safetensors"][:num_bytes])
    return partial


def test_pull_brings_the_model_and_nothing_twice(fake_hub, caches):
    path = pull("hf:ORG/tiny")
    assert path == resolve("hf:ORG/tiny")
    names = {file.name for file in path.iterdir()}
    assert names == {"config.json", "README.md", "tokenizer.model", "model.safetensors"}
    for name in names:
        assert (path / name).read_bytes() == fake_hub.files[name]
    num_requests = len(fake_hub.requests)
    assert pull("hf:ORG/tiny") == path
    assert [request.method for request in fake_hub.requests[num_requests:]] == ["GET"]  # the listing only


def test_listing_without_digests_is_enough(fake_hub, monkeypatch):
    listing = fake_hub._listing()
    listing["siblings"] = [{"rfilename": entry["rfilename"]} for entry in listing["siblings"]]
    monkeypatch.setattr(fake_hub, "_listing", lambda: listing)
    path = pull("hf:ORG/tiny")
    assert (path / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]


def test_one_file_and_a_revision(fake_hub):
    path = pull("hf:ORG/tiny/tokenizer.model@v1")
    assert path.read_bytes() == fake_hub.files["tokenizer.model"]
    assert path == resolve("hf:ORG/tiny/tokenizer.model@v1")
    assert [file.name for file in path.parent.iterdir()] == ["tokenizer.model"]


def test_revision_by_commit_writes_no_ref(fake_hub, caches):
    path = pull("hf:ORG/tiny", revision=fake_hub.commit)
    assert path == resolve(f"hf:ORG/tiny@{fake_hub.commit}")
    assert not (caches / "hf" / "models--ORG--tiny" / "refs").exists()


def test_published_name_comes_from_its_repository(fake_hub):
    with pytest.raises(NotFoundError, match="hf:google/gemma-2b: the Hub has no repository of this name"):
        pull("gemma-2b")
    assert fake_hub.requests[0].path.startswith("/api/models/google/gemma-2b")


def test_progress_counts_the_bytes_of_each_file(fake_hub):
    seen = {}
    pull("hf:ORG/tiny", progress=lambda name, done, total: seen.setdefault(name, []).append((done, total)))
    for name in ("config.json", "model.safetensors"):
        size = len(fake_hub.files[name])
        assert seen[name][-1] == (size, size)
        assert [done for done, _ in seen[name]] == sorted(done for done, _ in seen[name])


def test_kill_loses_no_more_than_a_chunk(fake_hub, caches, wait_for_part):
    """A child process is killed in the middle of a file; the next pull asks for the rest only."""
    hold = threading.Event()
    content = fake_hub.files["model.safetensors"]
    fake_hub.store.faults.append(("model.safetensors", fake_hub.content(content, 600_000, hold)))
    code = (
        "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 100_000\n"
        "from gemcut.hub import pull; pull('hf:ORG/tiny')"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "HF_ENDPOINT": fake_hub.hub.url})
    partial = partial_of(caches, fake_hub)
    wait_for_part(partial, 500_000, child)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    hold.set()
    kept_bytes = partial.stat().st_size
    with pytest.raises(NotFoundError, match="hf:ORG/tiny: not on this machine"):
        resolve("hf:ORG/tiny")
    path = pull("hf:ORG/tiny")
    assert fake_hub.downloads("model.safetensors")[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert (path / "model.safetensors").read_bytes() == content
    assert not partial.exists()


def test_user_who_gives_up_is_let_go_at_once(fake_hub, caches, wait_for_part):
    """Ctrl-C while the server is silent: the command says how to go on, and what came is kept."""
    hold = threading.Event()
    content = fake_hub.files["model.safetensors"]
    fake_hub.store.faults.append(("model.safetensors", fake_hub.content(content, 600_000, hold)))
    code = (
        # A shell starts what runs in its background deaf to Ctrl-C, and its children are born so.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 100_000\n"
        "import sys; sys.argv = ['gemcut', 'pull', 'hf:ORG/tiny']\n"
        "from gemcut.cli import main; main()"
    )
    environment = {**os.environ, "HF_ENDPOINT": fake_hub.hub.url}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    partial = partial_of(caches, fake_hub)
    wait_for_part(partial, 500_000, child)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=15)
    hold.set()
    assert child.returncode == 75
    assert "Interrupted. What came is kept; go on with: gemcut pull hf:ORG/tiny" in told
    assert partial.stat().st_size >= 500_000


def test_connection_that_breaks_is_taken_up_again(fake_hub):
    content = fake_hub.files["model.safetensors"]
    fake_hub.store.faults.append(("model.safetensors", fake_hub.content(content, 400_000)))
    path = pull("hf:ORG/tiny")
    assert (path / "model.safetensors").read_bytes() == content


def test_server_that_ignores_ranges_starts_the_file_anew(fake_hub, caches):
    content = fake_hub.files["model.safetensors"]
    leave_partial(caches, fake_hub, 1000)
    fake_hub.store.faults.append(("model.safetensors", fake_hub.content(content)))
    assert (pull("hf:ORG/tiny") / "model.safetensors").read_bytes() == content


def test_file_that_changed_meanwhile_is_not_mixed_with_its_old_part(fake_hub, caches):
    old = leave_partial(caches, fake_hub, 1000)
    fake_hub.add("model.safetensors", b"another version" * 999, large=True)
    fake_hub.commit = "9" * 40
    path = pull("hf:ORG/tiny")
    assert (path / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]
    assert old.exists()
    assert "range" not in fake_hub.downloads("model.safetensors")[-1].headers


def test_part_longer_than_the_file_is_dropped(fake_hub, caches):
    leave_partial(caches, fake_hub, 1000).write_bytes(b"x" * 2_000_000)
    path = pull("hf:ORG/tiny")
    assert (path / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_content_is_named_and_removed(fake_hub, caches, name):
    damaged = fake_hub.files[name][:-1] + b"?"
    headers = {"X-Repo-Commit": fake_hub.commit, "ETag": f'"{fake_hub.digest(name)}"'}
    server = fake_hub.store if name in fake_hub.large else fake_hub.hub
    server.faults.append((f"GET .*/{name}", fake_hub.content(damaged, headers=headers)))
    kind = "sha256" if name in fake_hub.large else "git object"
    with pytest.raises(
        DownloadError, match=rf"hf:ORG/tiny/{name}: came with {kind} \w+, expected {fake_hub.digest(name)}"
    ):
        pull("hf:ORG/tiny")
    with pytest.raises(NotFoundError):
        resolve("hf:ORG/tiny")
    assert (pull("hf:ORG/tiny") / name).read_bytes() == fake_hub.files[name]


def test_short_file_is_named(fake_hub):
    body = fake_hub.files["model.safetensors"][:5000]
    fake_hub.store.faults.append(("model.safetensors", fake_hub.content(body)))
    with pytest.raises(DownloadError, match="hf:ORG/tiny: a file came shorter than announced. What came is kept"):
        pull("hf:ORG/tiny")


def test_token_goes_to_the_hub_and_to_no_other_host(fake_hub):
    pull("hf:ORG/tiny", token="hf_secret")
    sent = {(request.server, request.headers.get("authorization")) for request in fake_hub.requests}
    assert sent == {("hub", "Bearer hf_secret"), ("store", None)}


@pytest.mark.parametrize(
    ("status", "code", "message", "token", "expected", "error"),
    [
        pytest.param(401, "GatedRepo", "", None, r"access is gated by its owner's terms, and no token was sent. Visit https://huggingface.co/ORG/tiny, log in and accept the terms there; then make a read token at .* set it as HF_TOKEN", DownloadError, id="gated-401"),
        pytest.param(403, "GatedRepo", "", "hf_x", r"access is gated, and the account of your token has not been let in. Visit https://huggingface.co/ORG/tiny, accept the terms", DownloadError, id="gated-403"),
        pytest.param(401, "RepoNotFound", "", None, r"no repository of this name, or it is private: make a read token", NotFoundError, id="private-401"),
        pytest.param(404, "RepoNotFound", "", "hf_x", r"no repository of this name, or your token does not see it", NotFoundError, id="missing-404"),
        pytest.param(401, None, "Invalid credentials in Authorization header", "hf_x", r"refused the token. It may have expired: make a read token", DownloadError, id="token-401"),
        pytest.param(500, None, "", None, r"the Hub answered 500 Internal Server Error. What came so far is kept", DownloadError, id="server-500"),
    ],
)  # fmt: skip
def test_refusals_in_plain_words(fake_hub, status, code, message, token, expected, error):
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    fake_hub.refusal = fake_hub.answer(status, headers)
    with pytest.raises(error, match=f"hf:ORG/tiny: .*{expected}"):
        pull("hf:ORG/tiny", token=token)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param("hf:ORG/tiny@v9", "hf:ORG/tiny: has no revision v9", id="revision"),
        pytest.param("hf:ORG/tiny/no.gguf", "hf:ORG/tiny: has no file no.gguf. It holds config.json,", id="file"),
    ],
)
def test_what_the_repository_lacks_is_named(fake_hub, reference, expected):
    with pytest.raises(NotFoundError, match=expected) as caught:
        pull(reference)
    assert caught.value.exit_code == 4


def test_name_that_the_hub_cannot_have_is_named(fake_hub):
    with pytest.raises(UsageError, match="hf:a/b--c: not a name that the Hub can have"):
        pull("hf:a/b--c")


def test_two_pulls_at_once_download_once(fake_hub):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = {future.result() for future in [pool.submit(pull, "hf:ORG/tiny") for _ in range(2)]}
    assert len(paths) == 1
    assert [request.server for request in fake_hub.downloads("model.safetensors")] == ["hub", "store"]


def test_listed_file_that_is_gone_is_named(fake_hub):
    gone = fake_hub.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": fake_hub.commit})
    fake_hub.hub.faults.append(("HEAD .*config.json", gone))
    with pytest.raises(NotFoundError, match="hf:ORG/tiny: a file that it lists is not there. Pull again later"):
        pull("hf:ORG/tiny")


def test_missing_part_of_a_split_file_is_named(fake_hub):
    fake_hub.add("m-00001-of-00002.gguf", b"GGUF", large=True)
    with pytest.raises(NotFoundError, match="hf:ORG/tiny: lacks m-00002-of-00002.gguf, a part of m-00001-of"):
        pull("hf:ORG/tiny/m-00001-of-00002.gguf")


@pytest.mark.parametrize("pattern", ["GET /api/models", "GET /signed/model.safetensors", "HEAD .*config.json"])
def test_busy_hub_is_waited_for(fake_hub, pattern, caplog):
    caplog.set_level(logging.ERROR, "huggingface_hub")
    busy = fake_hub.answer(429, {"Retry-After": "7"})
    for server in (fake_hub.hub, fake_hub.store):
        server.faults += [(pattern, busy), (pattern, busy)]
    pull("hf:ORG/tiny")
    assert [seconds for seconds in fake_hub.waits if seconds >= 7]


def test_hub_that_stays_busy_is_given_up(fake_hub):
    fake_hub.refusal = fake_hub.answer(429, {"Retry-After": "2"})
    with pytest.raises(DownloadError, match="still refuses after 5 tries, because of too many requests"):
        pull("hf:ORG/tiny")
    assert fake_hub.waits == [2, 2, 2, 2]


def test_too_long_a_wait_is_refused(fake_hub):
    fake_hub.refusal = fake_hub.answer(429, {"Retry-After": "7200"})
    with pytest.raises(DownloadError, match="because of too many requests"):
        pull("hf:ORG/tiny")
    assert fake_hub.waits == []


def test_hub_that_is_not_there_is_named(fake_hub):
    fake_hub.hub.close()
    with pytest.raises(
        DownloadError, match=r"hf:ORG/tiny: the Hub could not be reached \(.*Connection refused.*\). Check"
    ):
        pull("hf:ORG/tiny")


def test_offline_mode_is_named(fake_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set, so nothing is downloaded"):
        pull("hf:ORG/tiny")


def test_silent_hub_is_named(fake_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    fake_hub.hub.faults.append(("GET /api", fake_hub.content(b"too late", delay_seconds=0.3)))
    with pytest.raises(
        DownloadError, match="did not answer in time. .* allow more seconds in HF_HUB_DOWNLOAD_TIMEOUT and"
    ):
        pull("hf:ORG/tiny")


def test_connection_that_is_reset_is_taken_up_again(fake_hub, monkeypatch):
    import httpx2
    from huggingface_hub import file_download

    get, tries = file_download.http_get, []

    def reset_once(url: str, out, **options: object) -> None:
        if url.endswith("model.safetensors") and not tries.append(url) and len(tries) == 1:
            out.write(fake_hub.files["model.safetensors"][:1000])
            raise httpx2.ReadError("Connection reset by peer")
        get(url, out, **options)

    monkeypatch.setattr(file_download, "http_get", reset_once)
    path = pull("hf:ORG/tiny")
    assert (path / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]
    assert fake_hub.downloads("model.safetensors")[-1].headers["range"] == "bytes=1000-"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_gated_files_of_an_open_listing_are_named(fake_hub, name):
    """The Hub lists a gated repository to everyone, and refuses its files."""
    refusal = fake_hub.answer(401, {"X-Error-Code": "GatedRepo"})
    fake_hub.hub.faults += [(f"/{name}", refusal), (f"/{name}", refusal)]
    with pytest.raises(DownloadError, match="access is gated by its owner's terms, and no token was sent. Visit"):
        pull("hf:ORG/tiny")


@pytest.mark.parametrize("name", ["../../evil.safetensors", "/etc/evil.safetensors", "a/./b.json", "a\\..\\b.json"])
def test_names_that_leave_the_folder_are_refused(fake_hub, name):
    fake_hub.add(name, b"evil", large=True)
    with pytest.raises(
        DownloadError, match="hf:ORG/tiny: lists '.*', which is no name of a file in its folder. Do not use it"
    ):
        pull("hf:ORG/tiny")


def test_digests_that_are_paths_are_refused(fake_hub, monkeypatch):
    monkeypatch.setattr(fake_hub, "digest", lambda name: "../../../evil")
    with pytest.raises(DownloadError, match="lists config.json with the digest '../../../evil'. Do not use it"):
        pull("hf:ORG/tiny")


def test_room_is_checked_before_the_first_byte(fake_hub, monkeypatch):
    monkeypatch.setattr(transfer_shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(
        DownloadError, match=r"0.00 GB are free, expected at least 0.07 GB for hf:ORG/tiny.*HF_HUB_CACHE"
    ):
        pull("hf:ORG/tiny")
    assert fake_hub.downloads("model.safetensors") == []


def test_what_is_here_needs_no_room(fake_hub, monkeypatch):
    pull("hf:ORG/tiny")
    monkeypatch.setattr(transfer_shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    pull("hf:ORG/tiny")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(errno.ENOSPC, "hf:ORG/tiny: the disk of .* is full. What came so far is kept", id="full"),
        pytest.param(errno.EACCES, r"hf:ORG/tiny: could not be written to .* \(Permission denied\)", id="permission"),
    ],
)
def test_disk_that_fails_is_named(fake_hub, monkeypatch, number, expected):
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("gemcut.hub.huggingface.os", types.SimpleNamespace(fsync=fail))
    with pytest.raises(DownloadError, match=expected):
        pull("hf:ORG/tiny")


def test_disk_that_fills_up_keeps_what_came(fake_hub, caches, monkeypatch):
    """The system refuses to write beyond a size; once it does not, the pull goes on from there."""
    resource = pytest.importorskip("resource", reason="this system has no limits on the size of files")
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, old[1]))
    try:
        with pytest.raises(DownloadError, match=r"hf:ORG/tiny: could not be written to .* \(File too large\)"):
            pull("hf:ORG/tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    kept_bytes = partial_of(caches, fake_hub).stat().st_size
    assert kept_bytes > 200_000
    path = pull("hf:ORG/tiny")
    assert fake_hub.downloads("model.safetensors")[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert (path / "model.safetensors").read_bytes() == fake_hub.files["model.safetensors"]


def test_terms_are_shown_once_and_recorded(fake_hub, caches, capsys):
    fake_hub.card = {"license": "gemma"}
    pull("hf:ORG/tiny")
    assert "hf:ORG/tiny is provided under and subject to the Gemma Terms of Use" in capsys.readouterr().err
    assert json.loads((caches / "gemcut" / "licences" / "gemma-terms-of-use.json").read_text())["what"] == "hf:ORG/tiny"
    pull("hf:ORG/tiny")
    assert capsys.readouterr().err == ""


def test_terms_that_are_not_known_are_shown_by_their_name(fake_hub, capsys):
    fake_hub.card = {"license": "other", "license_name": "house-rules", "license_link": "LICENSE"}
    pull("hf:ORG/tiny")
    assert "subject to the house-rules found at https://huggingface.co/ORG/tiny" in capsys.readouterr().err


def test_repository_without_a_licence_is_warned_of(fake_hub, caplog):
    fake_hub.card = {}
    pull("hf:ORG/tiny")
    assert "hf:ORG/tiny: states no licence. Ask its owner" in caplog.text


def test_missing_client_names_the_extra(caches, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtraError, match=r'huggingface_hub, .* is not installed. Run: pip install "gemcut\[hub\]"'
    ):
        pull("hf:ORG/tiny")
