"""What downloads from every hub have in common."""

import threading

import pytest

from gemcut.errors import DownloadError
from gemcut.hub.transfer import RemoteFile, Stopped, asked_seconds, check_content, check_name, patiently, side_by_side

FILES = [RemoteFile(f"{index}.bin", 100) for index in range(6)]


def test_files_come_side_by_side_and_progress_is_told():
    together = threading.Barrier(4, timeout=10)
    seen = []

    def fetch(file, meter):
        if file in FILES[:4]:
            together.wait()  # passes only when four run at the same time
        meter.add(40)
        meter.set(100)

    side_by_side(FILES, fetch, lambda name, done, total: seen.append((name, done, total)))
    assert sorted(seen) == sorted((file.name, done, 100) for file in FILES for done in (40, 100))


def test_failure_stops_the_others_and_is_raised():
    stopped, begun = [], threading.Barrier(4, timeout=10)

    def fetch(file, meter):
        begun.wait()
        if file is FILES[0]:
            raise DownloadError("no")
        try:
            for _ in range(500):
                meter.add(1)
                threading.Event().wait(0.01)
        except Stopped:
            stopped.append(file.name)
            raise

    with pytest.raises(DownloadError, match="no"):
        side_by_side(FILES, fetch, None)
    assert set(stopped) == {"1.bin", "2.bin", "3.bin"}


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        pytest.param(429, "7", 7, id="asked"),
        pytest.param(503, None, 1, id="not-asked"),
        pytest.param(429, "Wed, 21 Oct 2015 07:28:00 GMT", 1, id="date"),
        pytest.param(429, "301", None, id="too-long"),
        pytest.param(500, "7", None, id="other"),
    ],
)
def test_time_to_wait(status, retry_after, seconds):
    assert asked_seconds(status, retry_after) == seconds


@pytest.fixture
def waits(monkeypatch):
    """The times that were waited, without waiting."""
    found = []
    monkeypatch.setattr("gemcut.hub.transfer.time.sleep", found.append)
    return found


def test_patience_ends(waits):
    def fail():
        raise ValueError("busy")

    with pytest.raises(ValueError, match="busy"):
        patiently(fail, lambda _: 3.0, "x")
    assert waits == [3.0] * 4
    with pytest.raises(ValueError, match="busy"):
        patiently(fail, lambda _: None, "x")
    assert waits == [3.0] * 4


def test_patience_pays(waits, caplog):
    answers = iter([ValueError("busy"), ValueError("busy"), 5])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(ask, lambda _: 2.0, "hf:a/b") == 5
    assert waits == [2.0, 2.0]
    assert caplog.text.count("hf:a/b: the hub is busy or cut us off; next try in 2 s.") == 2


@pytest.mark.parametrize("name", ["model.gguf", "a/b.json", "a b.bin", "..x", "x.."])
def test_names_inside_their_folder(name):
    check_name(name, "hf:a/b")


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../x", "a/./x", "a//x", "a/", "a\\x", "\x1b[2Jx", "a\nb"])
def test_names_outside_their_folder(name):
    with pytest.raises(
        DownloadError, match="hf:a/b: lists '.*', which is no name of a file in its folder. Do not use it"
    ):
        check_name(name, "hf:a/b")


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        pytest.param("", "", id="size-only"),
        pytest.param("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", id="sha256"),
        pytest.param("git object", "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f", id="git"),
        pytest.param("crc32c", "364b3fb7", id="crc32c"),
    ],
)
def test_content_is_checked(tmp_path, kind, digest):
    if kind == "crc32c":
        pytest.importorskip("google_crc32c", reason="the gcs extra is not installed")
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    check_content(path, RemoteFile("x", 3, kind, digest), "hf:a/b")
    path.write_bytes(b"abd" if kind else b"abcd")
    with pytest.raises(DownloadError, match="hf:a/b/x: came with .*, expected .*. The damaged copy was removed"):
        check_content(path, RemoteFile("x", 3, kind, digest), "hf:a/b")
    assert not path.exists()
