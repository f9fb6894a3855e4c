"""Pulling from Google Cloud Storage, by Google's real client, from a server on this machine."""

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

REFERENCE = "gs://bucket/models/tiny"
LARGE = "models/tiny/weights/part-0"


def place_of(caches):
    return caches / "gemcut" / "gs" / "bucket" / "models" / "tiny"


def test_pull_brings_all_below_a_path_and_nothing_twice(fake_storage, caches):
    seen = {}
    path = pull(REFERENCE, progress=lambda name, done, total: seen.update({name: (done, total)}))
    assert path == place_of(caches) == resolve(REFERENCE)
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert files == {"config.json": b"{}", "weights/part-0": fake_storage.files[LARGE]}
    assert seen == {name: (len(content), len(content)) for name, content in files.items()}
    num_requests = len(fake_storage.requests)
    assert pull(REFERENCE) == path
    assert len(fake_storage.requests) == num_requests


def test_one_object(fake_storage, caches):
    path = pull(f"gs://bucket/{LARGE}")
    assert path == resolve(f"gs://bucket/{LARGE}")
    assert path.read_bytes() == fake_storage.files[LARGE]
    assert sorted(file.name for file in path.parent.iterdir()) == ["part-0", "part-0.complete"]


def test_chosen_files_and_a_model_inside_leave_the_path_unmarked(fake_storage, caches):
    pull(f"gs://bucket/{LARGE}")
    path = pull(REFERENCE, files=["*.json"])
    assert (path / "config.json").read_bytes() == b"{}"
    with pytest.raises(NotFoundError, match=f"{REFERENCE}: not on this machine"):
        resolve(REFERENCE)
    assert pull(REFERENCE) == resolve(REFERENCE) == path
    assert len(fake_storage.downloads(LARGE)) == 1


def test_kill_loses_little(fake_storage, caches, wait_for_part):
    hold = threading.Event()
    content = fake_storage.files[LARGE]
    fake_storage.server.faults.append(("GET /download.*part-0", fake_storage.content(content, 700_000, hold)))
    child = subprocess.Popen([sys.executable, "-c", f"from gemcut.hub import pull; pull({REFERENCE!r})"])
    partial = place_of(caches) / "weights" / "part-0.1.incomplete"
    wait_for_part(partial, 300_000, child)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    hold.set()
    kept_bytes = partial.stat().st_size
    with pytest.raises(NotFoundError, match="not on this machine"):
        resolve(REFERENCE)
    path = pull(REFERENCE)
    assert fake_storage.downloads(LARGE)[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert (path / "weights" / "part-0").read_bytes() == content


def test_connection_that_breaks_is_taken_up_again(fake_storage):
    content = fake_storage.files[LARGE]
    fake_storage.server.faults.append(("GET /download.*part-0", fake_storage.content(content, 500_000)))
    assert (pull(REFERENCE) / "weights" / "part-0").read_bytes() == content
    assert re.fullmatch(r"bytes=\d+-", fake_storage.downloads(LARGE)[-1].headers["range"])


def test_object_that_changed_meanwhile_is_not_mixed_with_its_old_part(fake_storage, caches):
    place = place_of(caches)
    (place / "weights").mkdir(parents=True)
    (place / "weights" / "part-0.1.incomplete").write_bytes(b"old" * 100)
    (place / "config.json").write_bytes(b"an older configuration")
    fake_storage.generation = 2
    path = pull(REFERENCE)
    assert (path / "weights" / "part-0").read_bytes() == fake_storage.files[LARGE]
    assert (path / "config.json").read_bytes() == b"{}"
    assert sorted(file.name for file in (path / "weights").iterdir()) == ["part-0"]


def test_object_that_changes_while_it_comes_is_named(fake_storage):
    fake_storage.server.faults.append(("GET /download.*part-0", fake_storage.answer(412)))
    with pytest.raises(DownloadError, match=f"{REFERENCE}: an object changed while it was downloaded. Pull again"):
        pull(REFERENCE)


def test_wrong_content_is_named_and_removed(fake_storage, caches):
    damaged = fake_storage.files[LARGE][:-1] + b"?"
    fake_storage.server.faults.append(("GET /download.*part-0", fake_storage.content(damaged)))
    with pytest.raises(
        DownloadError, match=rf"{REFERENCE}/weights/part-0: came with crc32c \w+, expected \w+. The damaged"
    ):
        pull(REFERENCE)
    assert (pull(REFERENCE) / "weights" / "part-0").read_bytes() == fake_storage.files[LARGE]


@pytest.mark.parametrize(
    ("status", "expected", "error"),
    [
        pytest.param(401, "refuses access. Log in with an account .*gcloud auth application-default login", DownloadError, id="401"),
        pytest.param(403, "refuses access. Log in with an account", DownloadError, id="403"),
        pytest.param(404, "there is no such bucket or object", NotFoundError, id="404"),
        pytest.param(400, "the storage answered 400. What came so far is kept", DownloadError, id="400"),
    ],
)  # fmt: skip
def test_refusals_in_plain_words(fake_storage, status, expected, error):
    fake_storage.refusal = fake_storage.answer(status)
    with pytest.raises(error, match=f"{REFERENCE}: .*{expected}"):
        pull(REFERENCE)


def test_busy_storage_is_waited_for(fake_storage):
    busy = fake_storage.answer(429)
    fake_storage.server.faults += [("GET /storage", busy), ("GET /download.*part-0", busy)]
    pull(REFERENCE)
    assert not fake_storage.server.faults
    assert len(fake_storage.waits) >= 2  # more on a machine so busy that connections fail besides


def test_nothing_at_a_path_is_named(fake_storage):
    with pytest.raises(NotFoundError, match="gs://bucket/models/none: nothing lies there. List the bucket: gcloud"):
        pull("gs://bucket/models/none")


def test_paths_that_leave_the_folder_are_refused(fake_storage, caches):
    fake_storage.files["models/tiny/../../evil"] = b"x"
    with pytest.raises(DownloadError, match="lists '../../evil', which is no name of a file in its folder"):
        pull(REFERENCE)
    assert not (caches / "gemcut" / "gs" / "bucket" / "evil").exists()


def test_room_is_checked_before_the_first_byte(fake_storage, monkeypatch):
    monkeypatch.setattr("gemcut.hub.transfer.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(DownloadError, match=r"0.00 GB are free, expected at least 0.07 GB for gs:.*GEMCUT_CACHE"):
        pull(REFERENCE)
    assert fake_storage.downloads(LARGE) == []


def test_disk_that_fails_is_named(fake_storage, caches):
    (caches / "gemcut").mkdir()
    (caches / "gemcut" / "gs").touch()
    with pytest.raises(DownloadError, match=f"{REFERENCE}: could not be written to .* .Not a directory"):
        pull(REFERENCE)


def test_credentials_that_do_not_work_are_named(fake_storage, monkeypatch):
    from google.auth.exceptions import RefreshError

    def fail(*_: object, **__: object) -> None:
        raise RefreshError("expired")

    monkeypatch.setattr("google.cloud.storage.Client.list_blobs", fail)
    with pytest.raises(DownloadError, match=r"the credentials do not work \(expired\). Run: gcloud auth"):
        pull(REFERENCE)


def test_storage_that_is_not_there_is_named(fake_storage, monkeypatch):
    import requests

    def fail(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr("google.cloud.storage.Client.list_blobs", fail)
    with pytest.raises(DownloadError, match=r"the storage could not be reached \(no route\). Check the network"):
        pull(REFERENCE)


def test_user_without_credentials_is_anonymous(fake_storage, monkeypatch):
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    from gemcut.hub.gcs import _client

    original = storage.Client.__init__

    def without(self, *arguments: object, **options: object) -> None:
        if "credentials" not in options:
            raise DefaultCredentialsError("none")
        original(self, *arguments, **options)

    monkeypatch.setattr(storage.Client, "__init__", without)
    assert type(_client()._credentials).__name__ == "AnonymousCredentials"


def test_revision_of_a_bucket_is_refused(caches):
    with pytest.raises(UsageError, match=f"{REFERENCE}: a bucket has no revisions, and 3 is given"):
        pull(REFERENCE, revision="3")


def test_missing_client_names_the_extra(caches, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    monkeypatch.delattr("google.cloud.storage", raising=False)
    with pytest.raises(MissingExtraError, match=r'google-cloud-storage, .* Run: pip install "gemcut\[gcs\]"'):
        pull(REFERENCE)
