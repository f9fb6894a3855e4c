"""KerasHub as a peer: runs in its own environment; answers one measured run for each line on standard input.

    KERAS_BACKEND=jax python peer_kerashub.py FOLDER DTYPE

FOLDER is a Hugging Face folder of the model. The generate function is called directly, without KerasHub's
pre- and post-processing.
"""

import json
import sys
import time

import keras
import keras_hub
import numpy as np

VERSIONS = {"keras-hub": keras_hub.__version__, "keras": keras.__version__, "backend": keras.backend.backend()}


def main() -> None:
    """Load, then answer "PROMPT_TOKENS NEW_TOKENS" lines with {"seconds", "token_ids"}."""
    folder, dtype = sys.argv[1:3]
    model = keras_hub.models.Gemma3CausalLM.from_preset(folder, preprocessor=None, dtype=dtype)
    model.compile(sampler="greedy")
    generate = model.make_generate_function()
    print(json.dumps({"ready": VERSIONS}), flush=True)
    for line in sys.stdin:
        prompt_ids, new_tokens = json.loads(line)
        total = len(prompt_ids) + new_tokens
        token_ids, mask = np.zeros((1, total), "int32"), np.zeros((1, total), bool)
        token_ids[0, : len(prompt_ids)], mask[0, : len(prompt_ids)] = prompt_ids, True
        begin = time.perf_counter()
        output = generate({"token_ids": token_ids, "padding_mask": mask}, stop_token_ids=None)
        made = keras.ops.convert_to_numpy(output["token_ids"])[0, len(prompt_ids) :].tolist()
        print(json.dumps({"seconds": time.perf_counter() - begin, "token_ids": made}), flush=True)


main()
