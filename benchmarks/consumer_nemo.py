"""NeMo Automodel's config loader as a consumer: runs in its own environment (.venv-nemo).

python consumer_nemo.py '{"recipe": FILE.yaml}'
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import sys

import yaml
from nemo_automodel.components.config.loader import ConfigNode, load_yaml_config
from nemo_automodel.recipes._typed_config import RecipeConfig

SECTIONS = ("step_scheduler", "optimizer", "loss_fn", "checkpoint", "dataloader")
WRONG_KEY = "globl_batch_size"


def sections_of(config: ConfigNode) -> list[str]:
    """Every section, made into the class that it is for: an argument that one does not take raises."""
    recipe = RecipeConfig(config)
    for name in SECTIONS:
        if getattr(recipe, name) is None:
            raise ValueError(f"{name} is missing")
    dataset = config.dataset.to_dict()
    target = config.dataset._target_
    inspect.signature(target).bind(tokenizer=None, **{key: dataset[key] for key in dataset if key != "_target_"})
    return [*SECTIONS, "dataset"]


def main() -> None:
    """Load the recipe as it is, then with a key that no class knows."""
    path = json.loads(sys.argv[1])["recipe"]
    accepted = sections_of(load_yaml_config(path))
    with open(path, encoding="utf-8") as file:
        wrong = yaml.safe_load(file)
    wrong["step_scheduler"][WRONG_KEY] = 1
    try:
        sections_of(ConfigNode(wrong))
        rejection = ""
    except TypeError as error:
        rejection = str(error)
    versions = {"nemo-automodel": importlib.metadata.version("nemo-automodel")}
    print(json.dumps({"versions": versions, "accepted": accepted, "rejected": WRONG_KEY in rejection}))


if __name__ == "__main__":
    main()
