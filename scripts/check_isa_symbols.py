"""No function that other code shares is compiled for a newer processor.

The linker keeps one copy of an inline function or template that several objects define. Were it the copy of an object
compiled for AVX-512, every caller would need AVX-512. So the objects of isa_*.cc may define shared functions only in a
namespace that is called after the instruction set, as isa_avx2 in cpp/kernels and encode_avx2 in cpp/quantize.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED_FUNCTIONS = ("W", "w", "i")  # nm's letters for weak functions and run-time selected ones


def main() -> int:
    """Print each shared function; 1 when there is one, or nothing to look at."""
    build = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "python"
    objects = sorted(build.rglob("isa_*.cc.o"))
    if not objects:
        print(f"{build}: holds no isa_*.cc.o; build the engine first (make setup).", file=sys.stderr)
        return 1
    problems = [problem for path in objects for problem in shared_functions(path)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def shared_functions(path: Path) -> list[str]:
    """What one object defines for others to use outside its own namespace."""
    isa = path.name.removeprefix("isa_").removesuffix(".cc.o")
    own = re.compile(rf"gemcut::[a-z]+_{isa}::")
    listed = subprocess.run(
        ["nm", "--demangle", "--defined-only", str(path)], capture_output=True, text=True, check=True
    ).stdout
    problems = []
    for line in listed.splitlines():
        _, kind, name = line.split(maxsplit=2)
        if kind in SHARED_FUNCTIONS and not own.search(name):
            problems.append(f"{path.name}: {name} is shared with other objects; put it into a namespace NAME_{isa}.")
    return problems


if __name__ == "__main__":
    sys.exit(main())
