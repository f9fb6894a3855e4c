"""What a device can do: memory, how fast it is read, arithmetic, price; from a dated file, or measured here."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import statistics
import tomllib
from pathlib import Path
from typing import Any

from gemcut.engine import engine_facts
from gemcut.engine.extension import native
from gemcut.errors import DataError, NotFoundError
from gemcut.files import read_bytes
from gemcut.inspect.doctor import cpu

HARDWARE_FILE = Path(__file__).parent / "data" / "hardware.toml"
HARDWARE_VARIABLE = "GEMCUT_HARDWARE"
THIS_MACHINE = "this machine"
_MAX_FILE_BYTES = 1 << 20
_BANDWIDTH_RUNS = 3  # one in four strayed by half in benchmarks/results/engine-starter-decode.json


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device.

    Attributes:
        name: Its row in the file, or THIS_MACHINE.
        memory_bytes: Memory for weights, cache and all else.
        bandwidth_bytes_per_second: How fast that memory is read.
        source, date: Where the figures come from, and when they were read there or measured.
        bf16_flops, int8_ops: Most operations a second on dense matrices, a multiply-add counted as two; None where
            nothing says.
        price_per_hour: US dollars; None where no dated source says.
        price_source, price_date: Where the price comes from, and when.
        is_measured: Whether the figures were measured just now.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_second: float
    source: str
    date: str
    bf16_flops: float | None = None
    int8_ops: float | None = None
    price_per_hour: float | None = None
    price_source: str | None = None
    price_date: str | None = None
    is_measured: bool = False


_NUMBERS = ("memory_bytes", "bandwidth_bytes_per_second", "bf16_flops", "int8_ops", "price_per_hour")
_REQUIRED = ("memory_bytes", "bandwidth_bytes_per_second", "source", "date")
_KEYS = tuple(field.name for field in dataclasses.fields(Hardware) if field.name not in ("name", "is_measured"))


def hardware_named(name: str, file: str | os.PathLike[str] | None = None) -> Hardware:
    """The device called `name` in Gemcut's own table, or in `file`, whose rows win.

    Args:
        name: Its row.
        file: TOML in the form of `data/hardware.toml`; None for what the variable GEMCUT_HARDWARE names, if anything.

    Raises:
        NotFoundError: no row of that name, or no such file.
        DataError: a file is damaged, or a row lacks something.
    """
    rows = read_hardware(HARDWARE_FILE)
    own = file or os.environ.get(HARDWARE_VARIABLE)
    if own:
        rows |= read_hardware(Path(own))
    if name not in rows:
        raise NotFoundError(
            f"{name}: no such hardware, expected one of {', '.join(sorted(rows))}. Leave --on out for this machine, or "
            f"add a row in a file of your own (--hardware FILE); {HARDWARE_FILE.name} of the package shows the form."
        )
    return rows[name]


def read_hardware(path: Path) -> dict[str, Hardware]:
    """Every row of a hardware file.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is not TOML, or a row has a key that is unknown, missing or of the wrong kind.
    """
    try:
        tables = tomllib.loads(read_bytes(path, _MAX_FILE_BYTES, DataError).decode("utf-8"))
    except ValueError as problem:  # not UTF-8, or not TOML
        raise DataError(f"{path}: is not TOML ({problem}). {HARDWARE_FILE.name} shows the form.") from None
    return {name: _row(name, table, path) for name, table in tables.items()}


def _row(name: str, table: Any, path: Path) -> Hardware:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise DataError(f"{where}: is {table!r}, expected a table of facts on one device.")
    if unknown := sorted(set(table) - set(_KEYS)):
        raise DataError(f"{where}: unknown key {unknown[0]!r}, expected some of {', '.join(_KEYS)}.")
    required = _REQUIRED + (("price_source", "price_date") if "price_per_hour" in table else ())
    for key in required:
        if key not in table:
            raise DataError(f"{where}: {key} is missing. Every figure needs its source and date, a price too.")
    for key, value in table.items():
        if key in _NUMBERS:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
            expected = "a number above 0"
        elif key.endswith("date"):
            fits, expected = isinstance(value, datetime.date), "a date such as 2026-11-23"
        else:
            fits, expected = isinstance(value, str) and bool(value), "a text"
        if not fits:
            raise DataError(f"{where}: {key} is {value!r}, expected {expected}.")
    facts: dict[str, Any] = {key: str(value) if key.endswith("date") else value for key, value in table.items()}
    return Hardware(name, **facts)


def this_machine(threads: int | None = None) -> Hardware:
    """This machine, measured: how fast `threads` threads (None: every core) read memory and add 8-bit products.

    Takes about two seconds.

    Raises:
        MissingExtraError: this installation lacks the C++ engine, which measures.
    """
    facts = engine_facts()
    num_threads = threads or facts["cores"]
    return Hardware(
        THIS_MACHINE,
        facts["available_memory_bytes"],
        statistics.median(native().measured_read_bandwidth(num_threads) for _ in range(_BANDWIDTH_RUNS)),
        f"measured on {cpu()['name']}, {num_threads} threads, {facts['isa']}; memory is what is free now",
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        int8_ops=2 * native().int8_peak_mac_per_second(num_threads),
        is_measured=True,
    )
