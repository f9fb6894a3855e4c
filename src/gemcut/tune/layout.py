"""How a run lies on several devices: which tensor is split along which axis, and which rows each device learns from."""

from __future__ import annotations

import dataclasses
import functools

from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD
from gemcut.errors import UsageError
from gemcut.tune.recipe import LayoutName

DATA, TENSOR = "data", "tensor"  # axes of the grid of devices
_SPLIT_ROWS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
_SPLIT_COLUMNS = ("o_proj", "down_proj")
_OF_HEADS = ("q_norm", "k_norm")
_OF_KEYS = ("k_proj", "v_proj")
_OUTER = (EMBEDDING, OUTPUT_HEAD, "embedding", "head")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A grid of devices and what is split over it.

    Attributes:
        name: "data" splits the rows of a batch; "fsdp" the weights too, which come together layer by layer; "tensor"
            every matrix, so that each device computes a part of each product.
        num_devices: All devices.
        num_tensor: Devices that share each product, of "tensor"; rows are split over the others.
    """

    name: LayoutName
    num_devices: int
    num_tensor: int = 1

    @property
    def num_data(self) -> int:
        """Groups of devices that learn from rows of their own."""
        return self.num_devices // self.num_tensor


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the tensors of one decoder lie in a layout.

    Attributes:
        config: The decoder's.
        layout: The grid.
    """

    config: DecoderConfig
    layout: Layout

    @property
    def split_over(self) -> str:
        """The axis of the grid that tensors are split over."""
        return TENSOR if self.layout.name == "tensor" else DATA

    @property
    def num_parts(self) -> int:
        """Parts of each tensor that is split."""
        return {"data": 1, "fsdp": self.layout.num_devices, "tensor": self.layout.num_tensor}[self.layout.name]

    @property
    def splits_vocabulary(self) -> bool:
        """Whether each device has some rows of embedding and head only."""
        return self.num_parts > 1 and self.config.vocab_size % self.num_parts == 0

    @property
    def shares_keys(self) -> bool:
        """Whether several devices use the same key head: there are fewer of these than devices."""
        return self.layout.name == "tensor" and self.config.num_key_value_heads % self.num_parts > 0

    @functools.cached_property
    def own_config(self) -> DecoderConfig:
        """The decoder of one device's part of each layer."""
        if self.layout.name != "tensor":
            return self.config
        config, parts = self.config, self.num_parts
        return dataclasses.replace(
            config,
            num_attention_heads=config.num_attention_heads // parts,
            num_key_value_heads=max(1, config.num_key_value_heads // parts),
            intermediate_size=config.intermediate_size // parts,
        )

    def axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """The axis along which a tensor is split; None where every device has all of it.

        Args:
            name: A tensor of `gemcut.config.parameters`, stacked or not, or a factor of an adapter.
            shape: Of all of it.
        """
        if self.num_parts == 1 or len(shape) != 2:
            return None
        if name in _OUTER:
            return 0 if self.splits_vocabulary else None
        if self.layout.name == "fsdp":
            return next((axis for axis in (0, 1) if shape[axis] % self.num_parts == 0), None)
        matrix, side = _matrix_and_side(name)
        if matrix in _OF_KEYS and self.shares_keys:
            return None
        if side != "lora_A" and matrix in _SPLIT_ROWS:
            return 0
        return 1 if side != "lora_B" and matrix in _SPLIT_COLUMNS else None

    def split_by_part(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a stacked matrix is split so that each device has its part of every matrix in it."""
        return self.layout.name == "tensor" and name not in _OUTER and self.axis(name, shape) == 0

    def is_used_in_part(self, name: str) -> bool:
        """Whether every device has all of a tensor, but uses it for its part of the layer: gradients are partial."""
        matrix, side = _matrix_and_side(name)
        return self.layout.name == "tensor" and (
            matrix in _OF_HEADS
            or (matrix in _OF_KEYS and self.shares_keys)
            or (side == "lora_A" and matrix in _SPLIT_ROWS)
            or (side == "lora_B" and matrix in _SPLIT_COLUMNS)
        )

    def is_key_tensor(self, name: str) -> bool:
        """Whether a tensor's rows are those of keys or values, of which a device uses one head."""
        matrix, side = _matrix_and_side(name)
        return self.shares_keys and matrix in _OF_KEYS and side != "lora_A"

    def rows_of_part(self, name: str, num_rows: int, part: int) -> tuple[int, int]:
        """Rows [first, last) of an unstacked matrix that a part of its stack holds, where stacks are split by rows."""
        if _matrix_and_side(name)[0] in _OF_KEYS and self.shares_keys:
            head = part * self.config.num_key_value_heads // self.num_parts
            return head * self.config.head_dim, (head + 1) * self.config.head_dim
        each = num_rows // self.num_parts
        return part * each, (part + 1) * each

    def check(self, batch_size: int) -> None:
        """Whether all can be divided so.

        Raises:
            UsageError: rows of a batch, heads, widths or the vocabulary cannot.
        """
        layout, config = self.layout, self.config
        if batch_size % layout.num_data:
            raise UsageError(
                f"batch_size is {batch_size}, expected a multiple of {layout.num_data}, the devices that its rows are "
                f"split over. Take --batch {-(-batch_size // layout.num_data) * layout.num_data}, or other --devices."
            )
        if layout.name != "tensor":
            return
        sizes = {
            "num_attention_heads": config.num_attention_heads,
            "intermediate_size": config.intermediate_size,
            "vocab_size": config.vocab_size,
        }
        for what, size in sizes.items():
            if size % layout.num_tensor:
                raise UsageError(
                    f"--layout tensor: {what} of this model is {size}, expected a multiple of {layout.num_tensor}, the "
                    "devices that share each product. Set --tensor-devices to a divisor, or take --layout fsdp."
                )
        if config.num_key_value_heads % layout.num_tensor and layout.num_tensor % config.num_key_value_heads:
            raise UsageError(
                f"--layout tensor: num_key_value_heads of this model is {config.num_key_value_heads}, expected a "
                f"multiple or a divisor of {layout.num_tensor}, the devices that share each product. Set "
                "--tensor-devices to another number, or take --layout fsdp."
            )


def _matrix_and_side(name: str) -> tuple[str, str]:
    """Of "model.layers.0.self_attn.q_proj.lora_A": "q_proj" and "lora_A"."""
    path, _, side = name.rpartition(".")
    return path.rpartition(".")[2], side
