"""`gemcut doctor` prints the library's findings and ends with 1 when something has to be repaired."""

import json

import pytest

import gemcut.inspect

FACTS = {
    "gemcut": "1.2",
    "python": "3.11.7",
    "executable": "python",
    "system": "Linux",
    "memory_bytes": 1 << 34,
    "cpu": {"name": "A CPU", "cores": 2, "instructions": ["avx2"]},
    "compiler": None,
    "packages": {"keras": "3.15", "torch": None},
    "engines": {
        "native": {
            "works": True,
            "devices": ["cpu"],
            "seconds": 0.01,
            "message": "",
            "isa": "avx2",
            "cores": 2,
            "available_memory_bytes": 1 << 33,
            "l1_bytes": 1 << 15,
            "l2_bytes": 1 << 20,
            "l3_bytes": 0,
        },
        "jax": {"works": True, "devices": ["cpu"], "seconds": 1.25, "message": ""},
        "torch": {"works": False, "devices": [], "seconds": 0.0, "message": "not installed"},
    },
    "starter": {"installed": True, "path": "starter.gguf", "sha256": "ab", "verified": True, "message": ""},
    "cache": {"path": "cache", "writable": True, "free_bytes": 5_000_000_000},
    "sandbox": {"mechanism": None, "message": "namespaces: closed"},
    "problems": [],
}


@pytest.fixture
def facts(monkeypatch):
    changed = json.loads(json.dumps(FACTS))
    monkeypatch.setattr(gemcut.inspect, "doctor", lambda: changed)
    return changed


def test_findings_in_words(facts, invoke):
    result = invoke("doctor")
    assert result.exit_code == 0
    for part in (
        "works on cpu\n",
        "works on cpu with avx2, 2 cores, L1 32 KiB, L2 1 MiB, 8.00 GiB of memory free",
        "none; PyTorch then runs uncompiled",
        "verified, starter.gguf",
        "memory        16.00 GiB",
        "code sandbox  none (namespaces: closed)",
    ):
        assert part in result.stdout
    assert result.stderr == ""


def test_json(facts, invoke):
    assert json.loads(invoke("doctor", "--json").stdout) == FACTS


def test_problems_end_with_1(facts, invoke):
    facts["problems"] = ["no engine works"]
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "no engine works" in result.stdout
