"""Devices come from dated rows, or are measured."""

from __future__ import annotations

import datetime

import pytest

from gemcut.errors import DataError, NotFoundError
from gemcut.inspect.hardware import HARDWARE_FILE, THIS_MACHINE, hardware_named, read_hardware, this_machine

ROW = """
[box]
memory_bytes = 8_000_000_000
bandwidth_bytes_per_second = 50e9
source = "its manual"
date = 2026-01-31
"""
PRICE = 'price_per_hour = 1.5\nprice_source = "an invoice"\nprice_date = 2026-02-01\n'


@pytest.fixture
def write(tmp_path):
    def to_file(text: str):
        path = tmp_path / "own.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.mark.parametrize("device", read_hardware(HARDWARE_FILE).values(), ids=lambda device: device.name)
def test_row_of_the_package_is_plausible_and_dated(device):
    assert 1e9 < device.memory_bytes < 1e12
    assert 1e10 < device.bandwidth_bytes_per_second < 1e13
    assert 1e12 < device.bf16_flops < device.int8_ops < 1e16
    assert datetime.date.fromisoformat(device.date) <= datetime.date.today()
    assert device.source
    assert (device.price_per_hour, device.price_source, device.price_date) == (None, None, None)
    assert not device.is_measured


def test_row_of_the_user_is_read(write):
    device = hardware_named("box", write(ROW + PRICE))
    assert (device.memory_bytes, device.bandwidth_bytes_per_second) == (8_000_000_000, 50e9)
    assert (device.bf16_flops, device.int8_ops) == (None, None)
    assert (device.price_per_hour, device.price_source, device.price_date) == (1.5, "an invoice", "2026-02-01")


def test_file_of_the_environment_replaces_a_row(write, monkeypatch):
    monkeypatch.setenv("GEMCUT_HARDWARE", str(write(ROW.replace("box", "nvidia-l4"))))
    assert hardware_named("nvidia-l4").source == "its manual"
    assert hardware_named("tpu-v5e").memory_bytes == 16_000_000_000


def test_unknown_device_lists_the_known_ones():
    with pytest.raises(NotFoundError, match=r"warp-9: no such hardware, expected one of nvidia-a100-40gb, .*tpu-v6e"):
        hardware_named("warp-9")


def test_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"own.toml: no such file"):
        hardware_named("box", tmp_path / "own.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[box", "is not TOML", id="not-toml"),
        pytest.param("box = 3", r"\[box\]: is 3, expected a table", id="no-table"),
        pytest.param(ROW + "cores = 4", r"\[box\]: unknown key 'cores', expected some of memory_bytes", id="unknown-key"),
        pytest.param(ROW.replace('source = "its manual"', ""), r"\[box\]: source is missing", id="no-source"),
        pytest.param(ROW + "price_per_hour = 2", r"\[box\]: price_source is missing", id="price-without-source"),
        pytest.param(ROW.replace("50e9", "-1"), "bandwidth_bytes_per_second is -1, expected a number above 0", id="negative"),
        pytest.param(ROW.replace("50e9", "inf"), "bandwidth_bytes_per_second is inf, expected a number", id="infinite"),
        pytest.param(ROW.replace("50e9", "true"), "bandwidth_bytes_per_second is True, expected a number", id="boolean"),
        pytest.param(ROW.replace("2026-01-31", '"May"'), "date is 'May', expected a date such as", id="no-date"),
        pytest.param(ROW.replace('"its manual"', "7"), "source is 7, expected a text", id="no-text"),
    ],
)  # fmt: skip
def test_damaged_file_is_named(write, text, message):
    with pytest.raises(DataError, match=f"own.toml.*{message}"):
        read_hardware(write(text))


def test_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="own.toml: is not TOML"):
        read_hardware(tmp_path / "own.toml")


@pytest.mark.native
def test_this_machine_is_measured():
    device = this_machine(threads=1)
    assert (device.name, device.is_measured, device.price_per_hour) == (THIS_MACHINE, True, None)
    assert 1e8 < device.bandwidth_bytes_per_second < 1e13
    assert 1e8 < device.int8_ops < 1e15
    assert device.memory_bytes > 1 << 20
    assert "1 threads" in device.source
