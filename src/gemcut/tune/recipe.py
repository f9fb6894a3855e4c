"""The recipe: all that decides what a tuning run does, as a value that can be written down and run again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from gemcut.errors import UsageError
from gemcut.tune.settings import settings_from, settings_to

FORMAT = 1

Method = Literal["lora", "qlora", "full"]
TemplateChoice = Literal["auto", "chat", "plain"]
LossOn = Literal["completion", "assistant"]
Overlong = Literal["error", "truncate", "drop"]
Empty = Literal["error", "drop"]
Schedule = Literal["constant", "linear", "cosine"]
Recompute = Literal["blocks", "cheap", "nothing"]
Engine = Literal["auto", "jax", "torch", "tensorflow"]
LayoutName = Literal["data", "fsdp", "tensor"]


def _limits(least: float | None = None, most: float | None = None, *, above: float | None = None, default: Any) -> Any:
    """A field with the range that its value must be in."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most, "above": above})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The adapter of `method: lora`, as PEFT has it.

    Attributes:
        rank: r, the width between A and B.
        alpha: B A is multiplied by alpha / rank.
        rslora: The scale is alpha / sqrt(rank) instead.
        dropout: Share of A's inputs that are dropped.
        targets: Ends of the names of the matrices that get an adapter.
        saved_as: Type of the factors in the finished adapter's file; training and checkpoints have float32.
    """

    rank: int = _limits(1, default=16)
    alpha: float = _limits(above=0, default=32.0)
    rslora: bool = False
    dropout: float = _limits(0, 0.99, default=0.0)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    saved_as: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimiser and its numbers; those that an optimiser does not have are ignored.

    Attributes:
        name: "adamw", "adafactor" or "lion".
        beta1, beta2: Decay of the means of gradients and of their squares.
        epsilon: Added to the root of the corrected second moment, as PyTorch does.
        weight_decay: Decoupled, multiplied by the learning rate.
    """

    name: Literal["adamw", "adafactor", "lion"] = "adamw"
    beta1: float = _limits(0, 0.9999999, default=0.9)
    beta2: float = _limits(0, 0.9999999, default=0.999)
    epsilon: float = _limits(above=0, default=1e-8)
    weight_decay: float = _limits(0, default=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How records become rows.

    Attributes:
        format: "auto", or one of those in `record_formats`.
        map: Field of the format = a column, or a text with {columns} in it.
        template: "chat" uses the model's chat template; "plain" none; "auto" decides by data and model.
        system: A system message before each conversation that has none.
        loss_on: Learn the last answer only ("completion"), or every turn of the assistant.
        sequence_length: Tokens of a row, T; None for 1024, or the model's context where that is shorter.
        overlong: What becomes of a sample longer than that.
        empty: What becomes of a sample in which there is nothing to learn.
        packing: Put several samples into a row.
        limit: Use the first so many records only.
    """

    format: str = "auto"
    map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    template: TemplateChoice = "auto"
    system: str | None = None
    loss_on: LossOn = "completion"
    sequence_length: int | None = _limits(2, default=None)
    overlong: Overlong = "error"
    empty: Empty = "error"
    packing: bool = True
    limit: int | None = _limits(1, default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation during training.

    Attributes:
        share: Share of the samples that is held out.
        data: A file of held-out samples in place of a share.
        every: Steps between two evaluations; None for once an epoch.
        patience: Stop after so many evaluations without a better loss; None never stops.
        tasks: Tasks of `gemcut eval` that are asked at each evaluation too.
        task_limit: The first so many items of each of them.
    """

    share: float = _limits(0, 0.9, default=0.0)
    data: str | None = None
    every: int | None = _limits(1, default=None)
    patience: int | None = _limits(1, default=None)
    tasks: tuple[str, ...] = ()
    task_limit: int | None = _limits(1, default=100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Checkpoints of the run; none of this changes what is learnt.

    Attributes:
        every: Steps between two checkpoints; None for once an epoch.
        keep_last: The newest that are kept.
        keep_best: Keep the one with the lowest held-out loss too.
    """

    every: int | None = _limits(1, default=None)
    keep_last: int = _limits(1, default=2)
    keep_best: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """The devices of a run; none of this changes what is learnt, but for rounding.

    Attributes:
        count: How many, over all processes; None for all accelerators, or one where there are none.
        layout: What they split: "data" the rows of a batch, "fsdp" the weights too, "tensor" every product.
        tensor: Devices that share each product, of "tensor"; None for all. The others split the rows.
    """

    count: int | None = _limits(1, default=None)
    layout: LayoutName = "data"
    tensor: int | None = _limits(1, default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A tuning run.

    Attributes:
        model: Reference of the base model.
        data: Files of training data.
        method: "lora" trains an adapter beside the frozen weights, "qlora" one beside weights of 4 bits, "full" all
            weights.
        batch_size: Rows of a micro-batch, B.
        accumulation: Micro-batches of a step.
        epochs: Passes over the data.
        steps: Steps of the optimiser, in place of epochs.
        learning_rate: The highest; it is reached after the warm-up.
        schedule: What it does from then on.
        warmup: Steps of the linear warm-up, or, below 1, their share of all steps.
        final_learning_rate: What cosine and linear end at, as a share of the highest.
        clip_norm: The gradients' global norm is at most this; None for no clipping.
        engine: "jax", "torch" or "tensorflow"; "auto" takes the first that is installed.
        dtype: Of the computation: "auto", "float32" or "bfloat16".
        recompute: What backpropagation computes again to save memory: whole "blocks", what is "cheap", all but the
            products with weights (JAX; elsewhere as "blocks"), or "nothing", which "qlora" takes for "blocks".
        seed: Of the adapter's beginning, the order of the rows, the held-out split and dropout.
        devices: How many, and what they split.
    """

    model: str
    data: tuple[str, ...]
    method: Method = "lora"
    lora: LoraSettings = dataclasses.field(default_factory=LoraSettings)
    samples: DataSettings = dataclasses.field(default_factory=DataSettings)
    batch_size: int = _limits(1, default=4)
    accumulation: int = _limits(1, default=1)
    epochs: float = _limits(above=0, default=1.0)
    steps: int | None = _limits(1, default=None)
    learning_rate: float = _limits(above=0, default=2e-4)
    schedule: Schedule = "cosine"
    warmup: float = _limits(0, default=0.03)
    final_learning_rate: float = _limits(0, 1, default=0.0)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    clip_norm: float | None = _limits(above=0, default=1.0)
    engine: Engine = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    recompute: Recompute = "blocks"
    seed: int = _limits(0, 2**32 - 1, default=0)
    devices: DeviceSettings = dataclasses.field(default_factory=DeviceSettings)
    evaluation: EvaluationSettings = dataclasses.field(default_factory=EvaluationSettings)
    checkpoints: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)

    @classmethod
    def from_dict(cls, given: Any, where: str = "recipe") -> Recipe:
        """The recipe that plain values describe.

        Args:
            given: Keys and values; those that are left out have their defaults.
            where: The file, for errors.

        Raises:
            UsageError: a key is unknown, a value of the wrong kind or out of its range, or two contradict each other.
        """
        if not isinstance(given, Mapping):
            raise UsageError(f"{where}: is {type(given).__name__}, expected keys and values: model, data, ...")
        values = dict(given)
        if (found := values.pop("format", FORMAT)) != FORMAT:
            raise UsageError(
                f"{where}: its format is {found!r}, expected {FORMAT}. Another version of Gemcut wrote it."
            )
        recipe = settings_from(cls, values, where)
        recipe.check(where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, complete: defaults are written out."""
        return {"format": FORMAT, **settings_to(self)}

    @classmethod
    def from_yaml(cls, text: str, where: str = "recipe") -> Recipe:
        """The recipe that a YAML text describes; raises as `from_dict` does, and for what is not YAML."""
        from gemcut.tune.yaml_text import from_yaml

        return cls.from_dict(from_yaml(text, where), where)

    def to_yaml(self) -> str:
        """The complete recipe as YAML; `from_yaml` gives an equal one back."""
        from gemcut.tune.yaml_text import to_yaml

        return to_yaml(self.to_dict())

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that decides what is learnt; checkpoints and devices do not."""
        deciding = {key: value for key, value in self.to_dict().items() if key not in ("checkpoints", "devices")}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def check(self, where: str = "recipe") -> None:
        """Raises a UsageError where values contradict each other."""
        if not self.data:
            raise UsageError(f"{where}: data is empty, expected at least one file.")
        if self.evaluation.share and self.evaluation.data:
            raise UsageError(
                f"{where}: evaluation has both share and data, expected one. Hold out a share of the data, or name a "
                "file."
            )
        if self.evaluation.patience and not (self.evaluation.share or self.evaluation.data):
            raise UsageError(
                f"{where}: evaluation.patience needs held-out samples. Set evaluation.share or evaluation.data."
            )
        if self.warmup >= 1 and not math.isclose(self.warmup, round(self.warmup)):
            raise UsageError(f"{where}: warmup is {self.warmup}, expected whole steps, or a share below 1.")
