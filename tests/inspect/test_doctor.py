"""`doctor` tries what is there and names what is broken, whatever state the machine is in."""

import importlib
import json
import subprocess
import sys

import pytest

from gemcut import machine
from gemcut.errors import UsageError
from gemcut.hub import starter

doctor_module = importlib.import_module("gemcut.inspect.doctor")


@pytest.fixture
def probes(monkeypatch):
    """Answers of the engines' probes, in place of starting them."""
    answers = {
        name: {"works": True, "devices": ["cpu"], "seconds": 1.0, "message": ""}
        for name in ("jax", "torch", "tensorflow")
    }
    answers["native"] = answers["jax"] | {"isa": "avx2"}
    monkeypatch.setattr(doctor_module, "probe_engine", lambda name: answers[name])
    monkeypatch.setattr(doctor_module, "probe_native", lambda: answers["native"])
    monkeypatch.setattr(
        doctor_module,
        "verify_starter",
        lambda: {"installed": True, "path": None, "sha256": "ab", "verified": True, "message": ""},
    )
    return answers


def run_doctor():
    facts = doctor_module.doctor()
    json.dumps(facts)
    return facts


def test_facts_of_a_working_machine(probes, monkeypatch, tmp_path):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "not" / "yet"))
    facts = run_doctor()
    assert facts["problems"] == []
    assert facts["executable"] == sys.executable
    assert facts["cpu"]["cores"] >= 1
    assert facts["packages"]["numpy"]
    assert facts["cache"]["path"] == str(tmp_path / "not" / "yet")
    assert facts["cache"]["writable"]
    assert facts["cache"]["free_bytes"] > 0
    assert facts["sandbox"]["mechanism"] or facts["sandbox"]["message"]


def test_native_engine_tells_what_it_finds():
    found = doctor_module.probe_native()
    assert (found["works"], found["devices"], found["message"]) == (True, ["cpu"], "")
    assert found["isa"]
    assert found["cores"] >= 1
    assert found["available_memory_bytes"] > 2**20


def test_native_engine_that_does_not_work_says_why(monkeypatch):
    def fail():
        raise UsageError("GEMCUT_ISA is 'mmx'")

    monkeypatch.setattr(doctor_module, "engine_facts", fail)
    assert doctor_module.probe_native()["message"] == "broken: GEMCUT_ISA is 'mmx'"
    monkeypatch.setattr(doctor_module, "is_built", lambda: False)
    assert doctor_module.probe_native()["message"].startswith("not installed; install Gemcut again")


def test_engine_that_is_not_installed_is_no_problem(probes):
    probes["torch"] = {"works": False, "devices": [], "seconds": 0.0, "message": "not installed; pip install ..."}
    assert run_doctor()["problems"] == []


def test_broken_engine_is_a_problem(probes):
    probes["torch"] = {"works": False, "devices": [], "seconds": 0.0, "message": "broken: ImportError"}
    assert run_doctor()["problems"] == ["torch: broken: ImportError"]


def test_no_engine_at_all_is_a_problem(probes):
    for name in probes:
        probes[name] = {"works": False, "devices": [], "seconds": 0.0, "message": "not installed; ..."}
    assert run_doctor()["problems"] == ['no engine works; pip install "gemcut[jax]"']


def test_damaged_starter_is_a_problem(probes, monkeypatch):
    damaged = {"installed": True, "path": "x", "sha256": "cd", "verified": False, "message": "x: sha256 is cd"}
    monkeypatch.setattr(doctor_module, "verify_starter", lambda: damaged)
    assert run_doctor()["problems"] == ["x: sha256 is cd"]


def test_unwritable_cache_is_a_problem(probes, monkeypatch, tmp_path):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor_module.os, "access", lambda *_: False)
    assert run_doctor()["problems"] == [f"{tmp_path}: the cache folder cannot be written; set GEMCUT_CACHE"]


def test_machine_without_linux_facts_is_described_too(probes, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPU_FILE", tmp_path / "none")
    monkeypatch.setattr(doctor_module.shutil, "which", lambda _: None)
    monkeypatch.delattr(doctor_module.os, "sysconf")
    facts = run_doctor()
    assert facts["cpu"]["instructions"] == []
    assert facts["compiler"] is None
    assert facts["memory_bytes"] is None


def test_instruction_sets_are_read(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor : 0\nmodel name : A CPU\nflags : fpu avx2 fma avx512_bf16\n\nprocessor : 1\n"
    )
    monkeypatch.setattr(machine, "CPU_FILE", tmp_path / "cpuinfo")
    found = doctor_module.cpu()
    assert (found["name"], found["instructions"]) == ("A CPU", ["fma", "avx2", "avx512_bf16"])


@pytest.mark.parametrize("engine", ["jax"])
def test_probe_does_arithmetic_on_the_engine(engine):
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    answer = doctor_module.probe_engine(engine)
    assert answer["works"], answer["message"]
    assert answer["devices"]


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        pytest.param("import sys; sys.exit('no such device')", "broken: no such device", id="fails"),
        pytest.param("print('hello')", "broken: exit code 0", id="says-nothing"),
        pytest.param("import os; os.kill(os.getpid(), 9)", "broken: exit code -9", id="killed"),
    ],
)
def test_probe_names_what_is_broken(monkeypatch, probe, message):
    monkeypatch.setattr(doctor_module, "_PROBE", probe)
    monkeypatch.setitem(doctor_module._BACKENDS, "jax", ())
    assert doctor_module.probe_engine("jax")["message"] == message


def test_probe_that_hangs_is_ended(monkeypatch):
    def hang(*_, **options):
        raise subprocess.TimeoutExpired("python", options["timeout"])

    monkeypatch.setattr(doctor_module.subprocess, "run", hang)
    monkeypatch.setitem(doctor_module._BACKENDS, "jax", ())
    assert doctor_module.probe_engine("jax", 3.0)["message"] == "did not answer within 3 s"


def test_engine_without_its_packages_names_the_extra(monkeypatch):
    monkeypatch.setitem(doctor_module._BACKENDS, "torch", ("no_such_module",))
    assert doctor_module.probe_engine("torch")["message"] == 'not installed; pip install "gemcut[torch]"'


def test_starter_is_hashed_in_full(probes, monkeypatch, starter_path):
    monkeypatch.setattr(doctor_module, "verify_starter", starter.verify_starter)
    facts = run_doctor()
    assert facts["starter"]["sha256"] == starter.STARTER_SHA256
