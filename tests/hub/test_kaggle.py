"""Pulling from Kaggle, by its real client, from a server on this machine."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from gemcut.errors import DownloadError, MissingExtraError, NotFoundError, UsageError
from gemcut.hub import pull, resolve

# The client leaves the connection of a refused request to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

REFERENCE = "kaggle:google/tiny/transformers/base"
HERE = "google/tiny/transformers/base"


def folder_of(caches, version: int = 2):
    return caches / "kaggle" / "models" / HERE / str(version)


def test_pull_brings_the_model_and_nothing_twice(fake_kaggle, caches, capsys):
    seen = {}
    path = pull(REFERENCE, progress=lambda name, done, total: seen.update({name: (done, total)}))
    assert path == folder_of(caches) == resolve(REFERENCE)
    for name, content in fake_kaggle.files.items():
        assert (path / name).read_bytes() == content
        assert seen[name] == (len(content), len(content))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "subject to the Gemma found at" not in shown.err
    assert "subject to the Gemma Terms of Use" in shown.err
    num_requests = len(fake_kaggle.requests)
    assert pull(REFERENCE, revision="2") == path
    assert len(fake_kaggle.requests) == num_requests


def test_chosen_files_leave_the_version_unmarked(fake_kaggle, caches):
    path = pull(REFERENCE, files=["*.json"])
    assert [file.name for file in path.iterdir()] == ["config.json"]
    with pytest.raises(NotFoundError, match="not on this machine"):
        resolve(REFERENCE)
    with pytest.raises(NotFoundError, match=r"no file matches \*.gguf. It holds config.json, tokenizer/vocabulary.spm"):
        pull(REFERENCE, files=["*.gguf"])


def test_kill_loses_little(fake_kaggle, caches, wait_for_part):
    hold = threading.Event()
    content = fake_kaggle.files["model.safetensors"]
    fake_kaggle.store.faults.append(("model.safetensors", fake_kaggle.content(content, 3_500_000, hold)))
    code = (
        "from kagglesdk import kaggle_env\n"
        f"kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = {fake_kaggle.api.url!r}\n"
        f"from gemcut.hub import pull; pull({REFERENCE!r})"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    partial = folder_of(caches) / "model.safetensors"
    wait_for_part(partial, 2_000_000, child)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    hold.set()
    kept_bytes = partial.stat().st_size
    with pytest.raises(NotFoundError, match="not on this machine"):
        resolve(REFERENCE)
    path = pull(REFERENCE)
    assert fake_kaggle.downloads("model.safetensors")[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert (path / "model.safetensors").read_bytes() == content


def test_connection_that_breaks_is_taken_up_again(fake_kaggle):
    content = fake_kaggle.files["model.safetensors"]
    cut = fake_kaggle.content(content, 2_500_000, headers={"Accept-Ranges": "bytes"})
    fake_kaggle.store.faults.append(("model.safetensors", cut))
    path = pull(REFERENCE)
    assert (path / "model.safetensors").read_bytes() == content
    assert re.fullmatch(r"bytes=\d+-", fake_kaggle.downloads("model.safetensors")[-1].headers["range"])
    assert fake_kaggle.waits == [1.0]


def test_wrong_content_is_named_and_removed(fake_kaggle, caches):
    damaged = fake_kaggle._answer_store(fake_kaggle.requests[0] if fake_kaggle.requests else _request("config.json"))
    damaged.body = damaged.body[:-1] + b"?"
    fake_kaggle.store.faults.append(("config.json", damaged))
    with pytest.raises(DownloadError, match=f"{REFERENCE}: a file came with another MD5 than announced. The damaged"):
        pull(REFERENCE)
    assert not (folder_of(caches) / "config.json").exists()
    assert (pull(REFERENCE) / "config.json").read_bytes() == fake_kaggle.files["config.json"]


def _request(name: str):
    import types

    return types.SimpleNamespace(path=f"/signed/{name}", headers={})


def test_token_goes_to_kaggle_and_to_no_other_host(fake_kaggle):
    pull(REFERENCE, token="KGAT_secret")
    sent = {(request.server, request.headers.get("authorization")) for request in fake_kaggle.requests}
    assert sent == {("api", "Bearer KGAT_secret"), ("store", None)}


@pytest.mark.parametrize(
    ("status", "token", "expected", "error"),
    [
        pytest.param(401, None, "no token was sent. Visit https://www.kaggle.com/models/google/tiny, log in and accept the terms there; then make a token", DownloadError, id="401"),
        pytest.param(403, "x", "the account of your token, or the token itself. Visit https://www.kaggle.com/models/google/tiny with", DownloadError, id="gated-403"),
        pytest.param(404, None, "Kaggle has no such model, variation or version. Check the name at", NotFoundError, id="404"),
        pytest.param(500, None, "Kaggle answered 500. What came so far is kept", DownloadError, id="500"),
    ],
)  # fmt: skip
def test_refusals_in_plain_words(fake_kaggle, status, token, expected, error):
    fake_kaggle.refusal = fake_kaggle.answer(status)
    with pytest.raises(error, match=f"{REFERENCE}: .*{expected}"):
        pull(REFERENCE, token=token)


def test_busy_kaggle_is_waited_for(fake_kaggle):
    busy = fake_kaggle.answer(429, {"Retry-After": "7"})
    fake_kaggle.api.faults += [("GetModelInstance", busy), ("DownloadModel", busy)]
    pull(REFERENCE)
    assert fake_kaggle.waits == [7, 7]


def test_kaggle_that_stays_busy_is_given_up(fake_kaggle):
    fake_kaggle.refusal = fake_kaggle.answer(429)
    with pytest.raises(DownloadError, match="still refuses after 5 tries, because of too many requests"):
        pull(REFERENCE)
    assert fake_kaggle.waits == [1, 1, 1, 1]


def test_kaggle_that_is_not_there_is_named(fake_kaggle):
    fake_kaggle.api.close()
    with pytest.raises(DownloadError, match=f"{REFERENCE}: Kaggle could not be reached .*Check the network"):
        pull(REFERENCE)


def test_room_is_checked_before_the_first_byte(fake_kaggle, monkeypatch):
    monkeypatch.setattr("gemcut.hub.transfer.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(
        DownloadError, match=r"0.00 GB are free, expected at least 0.07 GB for kaggle:.*KAGGLEHUB_CACHE"
    ):
        pull(REFERENCE)
    assert fake_kaggle.downloads("config.json") == []


def test_answer_to_a_resumed_download_that_is_no_content_is_found(fake_kaggle, caches):
    """The client would append the error page of an expired address to the file."""
    partial = folder_of(caches) / "model.safetensors"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(fake_kaggle.files["model.safetensors"][:1000])
    whole = fake_kaggle.content(fake_kaggle.files["model.safetensors"], headers={"Accept-Ranges": "bytes"})
    fake_kaggle.store.faults += [("model.safetensors", whole), ("model.safetensors", fake_kaggle.answer(403))]
    with pytest.raises(DownloadError, match=r"base/2/model.safetensors: came with bytes 1000, expected 4016000"):
        pull(REFERENCE)
    assert not partial.exists()


def test_disk_that_fails_is_named(fake_kaggle, caches):
    blocked = folder_of(caches).parent
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    with pytest.raises(DownloadError, match=f"{REFERENCE}: could not be written to .* .Not a directory"):
        pull(REFERENCE)


def test_paths_that_leave_the_folder_are_refused(fake_kaggle, caches):
    fake_kaggle.files["../../evil"] = b"x"
    with pytest.raises(DownloadError, match="lists '../../evil', which is no name of a file in its folder"):
        pull(REFERENCE)
    assert not (caches / "kaggle" / "models" / "google" / "tiny" / "transformers" / "evil").exists()


def test_unknown_framework_is_named(fake_kaggle):
    with pytest.raises(UsageError, match="kaggle:google/tiny/nonsense/base: Kaggle's client does not accept it"):
        pull("kaggle:google/tiny/nonsense/base")


def test_missing_client_names_the_extra(caches, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match=r'kagglehub, .* is not installed. Run: pip install "gemcut\[kaggle\]"'):
        pull(REFERENCE)
