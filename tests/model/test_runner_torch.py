"""What only the PyTorch runner does: eager where there is no C++ compiler, compiled where asked."""

from __future__ import annotations

import logging

import pytest

from gemcut.errors import BackendError

pytestmark = [pytest.mark.backend, pytest.mark.keras]


@pytest.fixture
def runner_torch(engine):
    if engine != "torch":
        pytest.skip("this process runs another backend than PyTorch")
    from gemcut.model import runner_torch

    return runner_torch


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


def test_without_a_compiler_it_says_so_and_runs_eager(runner_torch, no_compiler, make_decoder, caplog):
    with caplog.at_level(logging.WARNING, "gemcut"):
        runner = runner_torch.Runner(make_decoder())
    assert "torch: no C++ compiler found, so decoding runs uncompiled and slower; install g++" in caplog.text
    assert runner._steps is runner._eager


def test_compiling_on_demand_without_a_compiler_is_an_error(runner_torch, no_compiler, make_decoder):
    with pytest.raises(BackendError, match=r"torch: compiled decoding needs a C\+\+ compiler; install g\+\+, or pass"):
        runner_torch.Runner(make_decoder(), compiled=True)


def test_the_compiler_may_be_named_by_the_environment(runner_torch, no_compiler, monkeypatch, tmp_path):
    assert not runner_torch.can_compile()
    named = tmp_path / "my-c++"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    monkeypatch.setenv("CXX", "my-c++")
    assert runner_torch.can_compile()
