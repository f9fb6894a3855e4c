"""`gemcut doctor`: what works on this machine."""

from __future__ import annotations

from typing import Any

import typer

from gemcut.cli import options
from gemcut.cli.output import busy, print_fields, print_json, size_in_words


def doctor(*, json: options.JsonOption = False, quiet: options.QuietOption = False) -> None:
    """Check what works on this machine.

    Engines and their devices, processor, memory, compiler, starter model, cache, versions. Each engine is tried in a
    process of its own. The exit code is 1 when something has to be repaired; an engine that is not installed is none.
    """
    from gemcut.inspect import doctor as examine

    with busy("Trying the engines ...", quiet):
        facts = examine()
    if json:
        print_json(facts)
    else:
        print_fields(_for_people(facts))
    if facts["problems"]:
        raise typer.Exit(1)


def _details(engine: dict[str, Any]) -> str:
    """What the native engine says of the processor."""
    if "isa" not in engine:
        return ""
    sizes = [f"L{level} {size_in_words(engine[f'l{level}_bytes'])}" for level in (1, 2, 3) if engine[f"l{level}_bytes"]]
    free = f"{size_in_words(engine['available_memory_bytes'])} of memory free"
    return f" with {engine['isa']}, {engine['cores']} cores, {', '.join([*sizes, free])}"


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in words."""
    engines = {}
    for name, engine in facts["engines"].items():
        if engine["works"]:
            engines[name] = f"works on {', '.join(engine['devices'])}{_details(engine)}"
        else:
            engines[name] = engine["message"]
    starter, cpu, cache = facts["starter"], facts["cpu"], facts["cache"]
    state = "verified" if starter["verified"] else starter["message"]
    return {
        "gemcut": facts["gemcut"],
        "python": f"{facts['python']} ({facts['executable']})",
        "system": facts["system"],
        "processor": f"{cpu['name']}, {cpu['cores']} cores",
        "memory": size_in_words(facts["memory_bytes"]) if facts["memory_bytes"] else "not known",
        "instructions": " ".join(cpu["instructions"]) or "not known",
        "C++ compiler": facts["compiler"] or "none; PyTorch then runs uncompiled (apt-get install g++)",
        "starter": f"{state}" + (f", {starter['path']}" if starter["path"] else ""),
        "cache": f"{cache['path']} ({'writable' if cache['writable'] else 'NOT writable'}, "
        f"{size_in_words(cache['free_bytes'])} free)",
        "code sandbox": facts["sandbox"]["mechanism"] or f"none ({facts['sandbox']['message']})",
        "engines": engines,
        "packages": {name: version or "not installed" for name, version in facts["packages"].items()},
        "problems": "; ".join(facts["problems"]) or "none",
    }
