"""Gemcut itself, driven as the peers are; answers one measured run for each line on standard input.

python worker_gemcut.py MODEL ENGINE DTYPE
"""

import importlib.metadata
import json
import sys
import time

import gemcut


def main() -> None:
    """Load, then answer "PROMPT_TOKENS NEW_TOKENS" lines with {"seconds", "token_ids"}."""
    reference, engine, dtype = sys.argv[1:4]
    model = gemcut.load(reference, engine=engine, dtype=dtype)
    versions = {"gemcut": gemcut.__version__, "keras": importlib.metadata.version("keras"), "backend": engine}
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        prompt_ids, new_tokens = json.loads(line)
        begin = time.perf_counter()
        completion = model.generate(prompt_ids, max_tokens=new_tokens)
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "token_ids": completion.token_ids}), flush=True)


main()
