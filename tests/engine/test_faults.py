"""Files, disks, memory and threads that fail under the native engine: a named error or the right result, and the
process lives. Each case that could end the process runs in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import BackendError, ContextLengthError, GemcutError, UsageError
from gemcut.interfaces import SamplingOptions

pytestmark = pytest.mark.native
GREEDY = SamplingOptions()
PROMPT = [2, *range(400, 440)]

PREAMBLE = """
import os, resource, sys
import numpy as np
from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import BackendError, CheckpointError, GemcutError, UsageError

PROMPT = [2, *range(400, 440)]
folder, place = sys.argv[1:]

def load(**options):
    with NativeCheckpoint(folder) as checkpoint:
        return NativeLanguageModel(checkpoint, **{"threads": 2, **options})

def kept_file():
    (name,) = os.listdir(place)
    return os.path.join(place, name)

def limit_memory(more):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
"""


def zeros(rows, steps=1):
    return np.zeros((rows, steps), np.float32)


def started(model, *prompts, max_tokens=100):
    cache = model.new_cache(len(prompts), max_tokens)
    model.prefill(cache, prompts)
    return cache


@pytest.fixture
def in_child(tiny_folder, tmp_path):
    """Run code after the preamble in a process of its own; what it printed. Its end is an ordinary one."""

    def run(code, folder=tiny_folder):
        child = subprocess.run(
            [sys.executable, "-c", PREAMBLE + code, str(folder), str(tmp_path / "place")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return child.stdout, child.stderr

    return run


# --- files -----------------------------------------------------------------------------------------------------------


def test_weights_cut_anywhere_are_named(in_child, write_tiny_model, tmp_path):
    """Before the process opens them."""
    folder = write_tiny_model(tmp_path / "cut")
    printed, _ = in_child(
        """
path = os.path.join(folder, "model.safetensors")
whole = open(path, "rb").read()
for size in [0, 1, 7, 8, 9, 100, 1000, *range(2000, len(whole), 9973), len(whole) - 1]:
    with open(path, "wb") as file:
        file.write(whole[:size])
    try:
        load()
    except CheckpointError as error:
        assert "model.safetensors" in str(error), error
    else:
        print("loaded", size)
print("done")
""",
        folder,
    )
    assert printed == "done\n"


@pytest.mark.parametrize("change", ["cut", "emptied", "replaced", "removed"])
def test_weights_that_change_after_they_were_opened(in_child, write_tiny_model, tmp_path, change):
    """Cut short or written over in place they are an error; where the name goes to another file the open one stays."""
    folder = write_tiny_model(tmp_path / "changed")
    printed, _ = in_child(
        f"""
path, change = os.path.join(folder, "model.safetensors"), {change!r}
wanted = load().logits(PROMPT)
checkpoint = NativeCheckpoint(folder)
if change == "cut":
    os.truncate(path, os.path.getsize(path) // 2)
elif change == "emptied":
    os.truncate(path, 0)
elif change == "replaced":
    open(path + ".new", "wb").write(b"other")
    os.replace(path + ".new", path)
else:
    os.unlink(path)
try:
    print((NativeLanguageModel(checkpoint).logits(PROMPT) == wanted).all())
except CheckpointError as error:
    print(error)
""",
        folder,
    )
    if change in ("cut", "emptied"):
        assert "model.safetensors: ends at byte" in printed
    else:
        assert printed == "True\n"


def test_weights_that_are_cut_after_the_model_was_loaded(in_child, write_tiny_model, tmp_path):
    """They were packed into memory of the engine's own."""
    printed, _ = in_child(
        """
model = load()
wanted = model.logits(PROMPT)
os.truncate(os.path.join(folder, "model.safetensors"), 10)
print((model.logits(PROMPT) == wanted).all())
""",
        write_tiny_model(tmp_path / "loaded"),
    )
    assert printed == "True\n"


def test_kept_layout_that_is_cut_short_in_use_is_an_error_and_made_anew(in_child):
    printed, _ = in_child(
        """
wanted = load(layout_folder=place).logits(PROMPT)
model = load(layout_folder=place)
assert model._engine.from_layout_file
cache = model.new_cache(1, 100)
os.truncate(kept_file(), 4096)
for repeat in range(3):
    try:
        model.prefill(cache, [PROMPT[:5]])
        print("computed")
    except CheckpointError as error:
        print(error)
    try:
        model.logits(PROMPT)
        print("computed")
    except CheckpointError as error:
        print(error)
again = load(layout_folder=place)
assert not again._engine.from_layout_file
assert (again.logits(PROMPT) == wanted).all()
assert load(layout_folder=place)._engine.from_layout_file
"""
    )
    lines = printed.splitlines()
    assert len(lines) == 6
    assert all("the model's kept layout was cut short while it was in use" in line for line in lines)


def test_kept_layout_that_is_removed_in_use_goes_on(in_child):
    printed, _ = in_child(
        """
wanted = load(layout_folder=place).logits(PROMPT)
model = load(layout_folder=place)
os.unlink(kept_file())
print(all((model.logits(PROMPT) == wanted).all() for _ in range(5)))
"""
    )
    assert printed == "True\n"


# --- disk ------------------------------------------------------------------------------------------------------------


def test_full_disk_keeps_no_layout_and_says_so(in_child):
    """A file that may not grow answers like a disk without room."""
    printed, warned = in_child(
        """
import logging, signal
logging.basicConfig()
wanted = load().logits(PROMPT)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
model = load(layout_folder=place)
print((model.logits(PROMPT) == wanted).all(), os.listdir(place))
try:
    cache = model.new_cache(1, 50)
    model.prefill(cache, [PROMPT])
    model.save_state(cache, os.path.join(place, "state"))
except BackendError as error:
    print(error, os.listdir(place))
"""
    )
    first, second = printed.splitlines()
    assert first == "True []"
    assert "state: it cannot be written (File too large). Free space, or choose another place." in second
    assert second.endswith(" []")
    assert "layout not kept" in warned
    assert "File too large" in warned


def test_layout_folder_that_cannot_be_made(in_child):
    printed, warned = in_child(
        """
import logging
logging.basicConfig()
open(place, "w").close()
print(load(layout_folder=os.path.join(place, "inside")).logits(PROMPT).shape)
"""
    )
    assert printed == f"({len(PROMPT)}, 704)\n"
    assert "layout not kept" in warned


# --- memory ----------------------------------------------------------------------------------------------------------


def test_more_memory_than_the_system_gives_is_an_error_and_the_model_goes_on(in_child, write_tiny_model, tmp_path):
    printed, _ = in_child(
        """
model = load(threads=1)
wanted = model.logits(PROMPT)
limit_memory(30 << 20)
try:
    model.new_cache(1, 1_000_000)
    print("allocated")
except BackendError as error:
    print(error)
print((model.logits(PROMPT) == wanted).all())
""",
        write_tiny_model(tmp_path / "long", max_position_embeddings=1_000_000),
    )
    error, same = printed.splitlines()
    assert "memory" in error or "bytes were asked for" in error
    assert same == "True"


def test_more_memory_than_the_machine_has_is_refused_with_its_number(write_tiny_model, tmp_path):
    with NativeCheckpoint(write_tiny_model(tmp_path / "endless", max_position_embeddings=1 << 50)) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=1)
    with pytest.raises(BackendError, match=r"a sequence of 1099511627776 tokens needs \d+\.\d\d GiB of memory, but "):
        model.new_cache(1, 1 << 40)
    with pytest.raises(BackendError, match="needs more memory than any machine has"):
        model.new_cache(1, 1 << 50)
    assert model.logits(PROMPT).shape == (len(PROMPT), 704)


def test_loading_with_little_memory_is_an_error_or_works(in_child):
    """At every limit on the way from nothing to enough."""
    printed, _ = in_child(
        """
from gemcut.engine import native
native()
wanted = load(threads=1).logits(PROMPT)
for more in (0, 1 << 16, 1 << 18, 1 << 19, 1 << 20, 3 << 20, 10 << 20, 30 << 20, 200 << 20):
    limit_memory(more)
    try:
        print((load(threads=1).logits(PROMPT) == wanted).all())
    except GemcutError as error:
        print(type(error).__name__)
    except MemoryError:
        print("MemoryError")  # Python's own
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    )
    lines = printed.splitlines()
    assert len(lines) == 9
    assert set(lines) <= {"True", "BackendError", "CheckpointError", "MemoryError"}
    assert lines[-1] == "True"


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, -1, 4097, 10**6])
def test_impossible_numbers_of_threads(tiny_folder, threads):
    expected = "at least 1" if threads < 1 else "at most 4096"
    refused = pytest.raises(UsageError, match=f"threads is {threads}, expected {expected}")
    with NativeCheckpoint(tiny_folder) as checkpoint, refused:
        NativeLanguageModel(checkpoint, threads=threads)


def test_threads_that_the_system_does_not_give(in_child):
    printed, _ = in_child(
        """
wanted = load(threads=1).logits(PROMPT)
limit_memory(40 << 20)
try:
    load(threads=64)
    print("loaded")
except BackendError as error:
    print(error)
print((load(threads=1).logits(PROMPT) == wanted).all())
"""
    )
    error, same = printed.splitlines()
    assert "threads is 64, but the system gave " in error
    assert "Ask for fewer, or free memory." in error
    assert same == "True"


# --- contexts and cancellation ---------------------------------------------------------------------------------------


def test_a_full_context_is_an_error_and_the_batch_goes_on(model):
    cache = started(model, PROMPT, PROMPT[:10], max_tokens=50)
    with pytest.raises(ContextLengthError, match="a sequence of 51 tokens does not fit the cache of 50"):
        model.prefill(cache, [[5] * 10, []])
    with pytest.raises(ContextLengthError):
        model.decode(cache, 20, [GREEDY] * 2, zeros(2, 20))
    assert [len(row) for row in cache.token_ids] == [41, 10]
    tokens = model.decode(cache, 9, [GREEDY] * 2, zeros(2, 9)).token_ids
    fresh = started(model, PROMPT, PROMPT[:10])
    assert (tokens == model.decode(fresh, 9, [GREEDY] * 2, zeros(2, 9)).token_ids).all()


def test_closing_while_another_thread_decodes(tiny_folder):
    """The pass that runs ends; what comes after it is an error."""
    with NativeCheckpoint(tiny_folder) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=2)
    first_pass, problems = threading.Event(), []

    def decode_on():
        try:
            while True:
                cache = started(model, PROMPT)
                model.decode(cache, 50, [GREEDY], zeros(1, 50))
                first_pass.set()
        except GemcutError as error:
            problems.append(error)

    thread = threading.Thread(target=decode_on)
    thread.start()
    assert first_pass.wait(60)
    model.close()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(problems[0], BackendError)
    assert "it was closed" in str(problems[0])


def test_a_fork_of_the_process_is_no_hang_of_the_parent(tiny_folder):
    """A child that is forked has none of the pool's threads; the parent's go on."""
    with NativeCheckpoint(tiny_folder) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=2)
    wanted = model.logits(PROMPT)
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (model.logits(PROMPT) == wanted).all()
