"""QLoRA: the adapter beside 4-bit weights learns what it would beside the same numbers in full."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from training import assert_gradients_equal, batch_of, documents_of, step_of

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.convert import convert
from gemcut.errors import UsageError
from gemcut.quantize import dequantize, quantize, type_named
from gemcut.tune.recipe import Recipe

pytestmark = [pytest.mark.backend, pytest.mark.keras]
LORA = {"rank": 3, "alpha": 3.0}


@pytest.fixture(scope="module")
def four_bit(tmp_path_factory, write_tiny_model):
    """A tiny model as a GGUF file whose layers have Q4_0."""
    folder = tmp_path_factory.mktemp("model")
    source = write_tiny_model(folder / "tiny", intermediate_size=64)
    convert(source, folder / "tiny.gguf", to="gguf", type="Q4_0")
    with open_checkpoint(folder / "tiny.gguf") as checkpoint:
        assert checkpoint.tensors["model.layers.0.mlp.up_proj.weight"].stored_type == "Q4_0"
    return folder / "tiny.gguf"


@pytest.fixture(scope="module")
def step():
    return (batch_of([documents_of([19, 11])], 40),)


def begun(train):
    """The steps at a beginning whose factors are not zero."""
    state, generator = train.state(), np.random.default_rng(1)
    state.trained = {
        name: generator.standard_normal(values.shape, dtype=np.float32) / 4 for name, values in state.trained.items()
    }
    train.load_state(state)
    return train


def test_codes_are_widened_as_the_file_formats_say(engine):
    from keras import ops

    from gemcut.tune.qlora import packed, widened

    values = np.random.default_rng(3).standard_normal((5, 96), dtype=np.float32)
    kind = type_named("Q4_0")
    expected = dequantize(quantize(values, kind), kind, values.shape)
    codes, scales = map(ops.convert_to_tensor, packed(values))
    found = widened(codes, scales, "float32")
    assert np.array_equal(np.asarray(found.detach() if hasattr(found, "detach") else found), expected)


def test_it_learns_what_lora_learns_beside_the_same_numbers(four_bit, step, engine):
    found, expected = (begun(step_of(four_bit, engine, method=method, lora=LORA)) for method in ("qlora", "lora"))
    assert_gradients_equal(found.gradients(step), expected.gradients(step), share=1e-5)
    assert found.run(step).loss == pytest.approx(expected.run(step).loss, rel=1e-6)


def test_it_learns_in_bfloat16(four_bit, step, engine):
    train = step_of(four_bit, engine, method="qlora", lora=LORA, dtype="bfloat16", learning_rate=0.01)
    losses = [begun(train).run(step).loss, *(train.run(step).loss for _ in range(3))]
    assert losses[-1] < losses[0]


def test_what_is_kept_of_the_layers(four_bit, engine):
    """Codes and scales of the file itself, 4.5 bits a weight; nothing of the matrices is there widened."""
    layer = step_of(four_bit, engine, method="qlora", lora=LORA).frozen["layers"][1]
    sizes = {name: tuple(value.shape) for name, value in layer.items() if len(value.shape) > 1}
    assert sizes["mlp.gate_up_proj.weight.codes"] == (128, 1, 16)
    assert sizes["mlp.gate_up_proj.weight.scales"] == (128, 1)
    assert all(name.endswith((".codes", ".scales")) for name in sizes)
    with open_checkpoint(four_bit) as checkpoint:
        stored = np.array(checkpoint.tensors["model.layers.1.mlp.down_proj.weight"].raw).reshape(32, 2, 18)
    assert np.array_equal(np.asarray(layer["mlp.down_proj.weight.codes"]), stored[:, :, 2:])


def test_a_model_of_other_numbers_is_rounded_once(tmp_path, write_tiny_model, step, engine):
    source = write_tiny_model(tmp_path / "tiny", intermediate_size=64)
    found, expected = (begun(step_of(source, engine, method=method, lora=LORA)) for method in ("qlora", "lora"))
    losses = found.run(step).loss, expected.run(step).loss
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_matrices_without_whole_blocks_are_refused(tmp_path, write_tiny_model, engine):
    source = write_tiny_model(tmp_path / "tiny", intermediate_size=48)
    with pytest.raises(UsageError, match=r"mlp.down_proj.weight has 48 columns, expected a multiple of 32. Use method"):
        step_of(source, engine, method="qlora", lora=LORA)


def test_a_whole_run_writes_an_adapter(four_bit, tmp_path, engine):
    import gemcut
    from gemcut.tune.run import tune

    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Say it: ", "completion": "hello hello"}\n' * 4)
    recipe = Recipe.from_dict(
        {"model": str(four_bit), "data": [str(data)], "method": "qlora", "lora": LORA, "engine": engine, "steps": 2}
        | {"samples": {"sequence_length": 64}, "dtype": "float32"}
    )
    result = tune(recipe, tmp_path / "run")
    assert result.artefact == tmp_path / "run" / "adapter"
    assert dataclasses.asdict(recipe)["method"] == "qlora"
    model = gemcut.load(four_bit, engine=engine, dtype="float32", adapter=result.artefact)
    assert model.generate("Say it: ", max_tokens=4).token_ids
    model.close()
