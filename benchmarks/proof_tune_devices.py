"""Losses of Gemma 1, 2 and 3 on eight virtual devices in each layout, LoRA and full, against those of one device.

python benchmarks/proof_tune_devices.py [FAMILY METHOD]
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path.insert(0, str(TESTS / "parity"))
from families import FAMILIES, write_reference  # noqa: E402

LAYOUTS: list[Any] = [None, ["data", 8, 1], ["fsdp", 8, 1], ["tensor", 8, 8], ["tensor", 8, 2]]
CASES = [(family, method) for family in ("gemma", "gemma2", "gemma3") for method in ("lora", "full")]
BOUND = 1e-5  # of a loss, relative
RESULT = HERE / "results" / "tune-devices.json"


def main() -> None:
    """Compare and keep the result."""
    cases = [tuple(sys.argv[1:3])] if len(sys.argv) > 2 else CASES
    kept = json.loads(RESULT.read_text())["cases"] if RESULT.exists() else {}
    for family, method in cases:
        alone, *others = losses_of(family, method)
        kept[f"{family} {method}"] = {
            "losses": alone[:-1],
            "layouts": {
                " ".join(map(str, layout)): {
                    "differences": [
                        float(f"{abs(one / other - 1):.1e}") for one, other in zip(found[:-1], alone[:-1], strict=True)
                    ],
                    "largest_share_of_weights": round(found[-1], 4),
                }
                for layout, found in zip(LAYOUTS[1:], others, strict=True)
            },
        }
        print(family, method, json.dumps(kept[f"{family} {method}"]["layouts"]), flush=True)
        result = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": "make proof-tune-devices",
            "versions": {name: importlib.metadata.version(name) for name in ("gemcut", "jax", "keras")},
            "layouts": "name, devices, devices that share each product",
            "cases": kept,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    worst = max(max(layout["differences"]) for case in kept.values() for layout in case["layouts"].values())
    print(f"largest difference of a loss: {worst:.1e}, at most {BOUND:.0e} is right")
    if worst > BOUND:
        raise SystemExit(1)


def losses_of(name: str, method: str) -> list[list[float]]:
    """Losses of a shrunk family for each layout, as `tests/tune/layout_losses.py` prints them."""
    family = next(family for family in FAMILIES if family.name == name)
    settings = family.settings | {"num_attention_heads": 8, "vocab_size": 200}  # both can be divided by eight
    with tempfile.TemporaryDirectory() as folder:
        write_reference(dataclasses.replace(family, settings=settings), Path(folder))
        script = TESTS / "tune" / "layout_losses.py"
        command = [sys.executable, str(script), "jax", folder, method, json.dumps(LAYOUTS)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
