"""The published models Gemcut knows by name: configuration, where their files live, licence, exact size."""

from __future__ import annotations

import dataclasses
import difflib

from gemcut.config.decoder import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters
from gemcut.errors import NotFoundError


@dataclasses.dataclass(frozen=True)
class Licence:
    """The terms a model comes under.

    Attributes:
        name: As its publisher writes it.
        url: Where the text stands.
    """

    name: str
    url: str


GEMMA_TERMS = Licence("Gemma Terms of Use", "https://ai.google.dev/gemma/terms")
LLAMA_2_LICENCE = Licence("Llama 2 Community License", "https://ai.meta.com/llama/license")
APACHE_2 = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """One published size, as its publisher describes it.

    Attributes:
        name: As published, lower case.
        config: Its decoder; of multimodal models the text decoder.
        huggingface: Repository on the Hugging Face hub, ORG/REPO.
        kaggle: Keras preset on Kaggle, OWNER/MODEL/FRAMEWORK/VARIATION; None where there is none.
        licence: The terms of the weights.
        context: Tokens it was trained to use, prompt and answer together.
        num_parameters: The published count, to the unit.
        instruction_tuned: Whether it was trained to follow a chat template.
        chat_template: Family of that template: "gemma", "gemma3", "function_gemma", "llama2" or "mistral";
            None for a model that only continues text.
        notes: What a user should know besides.
    """

    name: str
    config: DecoderConfig
    huggingface: str
    kaggle: str | None
    licence: Licence
    context: int
    num_parameters: int
    instruction_tuned: bool = False
    chat_template: str | None = None
    notes: str = ""


def _gemma(layers: int, width: int, ffn: int, heads: int, kv_heads: int) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=256_000,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=256,
        max_position_embeddings=8192,
        layer_types=(FULL_ATTENTION,) * layers,
        sliding_window=None,
        rope_parameters=((FULL_ATTENTION, RopeParameters()),),
        query_pre_attn_scalar=256,
    )


def _gemma2(
    layers: int, width: int, ffn: int, heads: int, kv_heads: int, *, head: int = 256, query_scalar: int = 256
) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=256_000,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head,
        max_position_embeddings=8192,
        layer_types=tuple(FULL_ATTENTION if index % 2 else SLIDING_ATTENTION for index in range(layers)),
        sliding_window=4096,
        rope_parameters=((SLIDING_ATTENTION, RopeParameters()), (FULL_ATTENTION, RopeParameters())),
        query_pre_attn_scalar=query_scalar,
        post_norms=True,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        model_type="gemma2",
    )


def _gemma3(
    layers: int, width: int, ffn: int, heads: int, kv_heads: int, *, head: int = 256, query_scalar: int = 256
) -> DecoderConfig:
    # The sizes with a vision tower have twice the window, four times the context, and global positions divided by 8.
    is_large = layers >= 34
    return DecoderConfig(
        vocab_size=262_144,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head,
        max_position_embeddings=131_072 if is_large else 32_768,
        layer_types=tuple(FULL_ATTENTION if index % 6 == 5 else SLIDING_ATTENTION for index in range(layers)),
        sliding_window=1024 if is_large else 512,
        rope_parameters=(
            (SLIDING_ATTENTION, RopeParameters()),
            (FULL_ATTENTION, RopeParameters(1_000_000.0, 8.0 if is_large else 1.0)),
        ),
        query_pre_attn_scalar=query_scalar,
        post_norms=True,
        qk_norm=True,
        model_type="gemma3_text",
    )


def _llama_like(
    layers: int,
    width: int,
    ffn: int,
    *,
    kv_heads: int,
    vocab_size: int = 32_000,
    context: int = 4096,
    window: int | None = None,
    rope_theta: float = 10_000.0,
    model_type: str = "llama",
) -> DecoderConfig:
    layer_type = FULL_ATTENTION if window is None else SLIDING_ATTENTION
    return DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        num_key_value_heads=kv_heads,
        head_dim=128,
        max_position_embeddings=context,
        layer_types=(layer_type,) * layers,
        sliding_window=window,
        rope_parameters=((layer_type, RopeParameters(rope_theta)),),
        query_pre_attn_scalar=128,
        rms_norm_eps=1e-5,
        hidden_activation="silu",
        tie_word_embeddings=False,
        scale_embeddings=False,
        norm_unit_offset=False,
        bos_token_id=1,
        pad_token_id=None,
        eos_token_ids=(2,),
        model_type=model_type,
    )


_GEMMA_2B = _gemma(18, 2048, 16_384, 8, 1)
_GEMMA_7B = _gemma(28, 3072, 24_576, 16, 16)
_GEMMA2_2B = _gemma2(26, 2304, 9216, 8, 4)
_GEMMA2_9B = _gemma2(42, 3584, 14_336, 16, 8)
_GEMMA2_27B = _gemma2(46, 4608, 36_864, 32, 16, head=128, query_scalar=144)
_GEMMA3_270M = _gemma3(18, 640, 2048, 4, 1)
_GEMMA3_1B = _gemma3(26, 1152, 6912, 4, 1)
_GEMMA3_4B = _gemma3(34, 2560, 10_240, 8, 4)
_GEMMA3_12B = _gemma3(48, 3840, 15_360, 16, 8)
_GEMMA3_27B = _gemma3(62, 5376, 21_504, 32, 16, head=128, query_scalar=168)
_LLAMA2_7B = _llama_like(32, 4096, 11_008, kv_heads=32)
_LLAMA2_13B = _llama_like(40, 5120, 13_824, kv_heads=40)
_MISTRAL_V01 = _llama_like(32, 4096, 14_336, kv_heads=8, context=32_768, window=4096, model_type="mistral")
_MISTRAL_V03 = _llama_like(
    32, 4096, 14_336, kv_heads=8, vocab_size=32_768, context=32_768, rope_theta=1_000_000.0, model_type="mistral"
)

# Ids that end a turn, besides </s> or <eos>: <end_of_turn> is 107 in the Gemma 1/2 vocabulary and 106 in Gemma 3's.
_GEMMA_STOPS: tuple[int, ...] = (1, 107)
_GEMMA3_STOPS: tuple[int, ...] = (1, 106)
_FUNCTION_GEMMA_STOPS: tuple[int, ...] = (1, 50, 106)

_INFILL_ONLY = "Trained on infilling between code; not on instructions."
_INFILL = "Continues and infills code."
_CLASSIFIER = "A safety classifier: read the probabilities of Yes and No at the end of its prompt."
_TEXT_OF_MULTIMODAL = (
    "The text decoder of a multimodal model. It has 262,144 embedding rows; Hugging Face's file holds 262,208, "
    "of which the last 64 belong to images, and its vision tower, which text does not use."
)
_MISTRAL_V01_NOTE = "Every layer sees 4,096 tokens; positions go on to 32,768, beyond what it was trained on."


# name | decoder | parameters | Keras preset on Kaggle, without its owner | notes
_GEMMA_ROWS = (
    ("gemma-2b", _GEMMA_2B, 2_506_172_416, "gemma/keras/gemma_2b_en", ""),
    ("gemma-2b-it", _GEMMA_2B, 2_506_172_416, "gemma/keras/gemma_instruct_2b_en", ""),
    ("gemma-7b", _GEMMA_7B, 8_537_680_896, "gemma/keras/gemma_7b_en", ""),
    ("gemma-7b-it", _GEMMA_7B, 8_537_680_896, "gemma/keras/gemma_instruct_7b_en", ""),
    ("gemma-1.1-2b-it", _GEMMA_2B, 2_506_172_416, "gemma/keras/gemma_1.1_instruct_2b_en", ""),
    ("gemma-1.1-7b-it", _GEMMA_7B, 8_537_680_896, "gemma/keras/gemma_1.1_instruct_7b_en", ""),
    ("codegemma-2b", _GEMMA_2B, 2_506_172_416, "codegemma/keras/code_gemma_2b_en", _INFILL_ONLY),
    ("codegemma-7b", _GEMMA_7B, 8_537_680_896, "codegemma/keras/code_gemma_7b_en", _INFILL),
    ("codegemma-7b-it", _GEMMA_7B, 8_537_680_896, "codegemma/keras/code_gemma_instruct_7b_en", ""),
    ("codegemma-1.1-2b", _GEMMA_2B, 2_506_172_416, "codegemma/keras/code_gemma_1.1_2b_en", _INFILL_ONLY),
    ("codegemma-1.1-7b-it", _GEMMA_7B, 8_537_680_896, "codegemma/keras/code_gemma_1.1_instruct_7b_en", ""),
    ("gemma-2-2b", _GEMMA2_2B, 2_614_341_888, "gemma2/keras/gemma2_2b_en", ""),
    ("gemma-2-2b-it", _GEMMA2_2B, 2_614_341_888, "gemma2/keras/gemma2_instruct_2b_en", ""),
    ("gemma-2-9b", _GEMMA2_9B, 9_241_705_984, "gemma2/keras/gemma2_9b_en", ""),
    ("gemma-2-9b-it", _GEMMA2_9B, 9_241_705_984, "gemma2/keras/gemma2_instruct_9b_en", ""),
    ("gemma-2-27b", _GEMMA2_27B, 27_227_128_320, "gemma2/keras/gemma2_27b_en", ""),
    ("gemma-2-27b-it", _GEMMA2_27B, 27_227_128_320, "gemma2/keras/gemma2_instruct_27b_en", ""),
    ("shieldgemma-2b", _GEMMA2_2B, 2_614_341_888, "shieldgemma/keras/shieldgemma_2b_en", _CLASSIFIER),
    ("shieldgemma-9b", _GEMMA2_9B, 9_241_705_984, "shieldgemma/keras/shieldgemma_9b_en", _CLASSIFIER),
    ("shieldgemma-27b", _GEMMA2_27B, 27_227_128_320, "shieldgemma/keras/shieldgemma_27b_en", _CLASSIFIER),
    ("gemma-3-270m", _GEMMA3_270M, 268_098_176, "gemma3/keras/gemma3_270m", ""),
    ("gemma-3-270m-it", _GEMMA3_270M, 268_098_176, "gemma3/keras/gemma3_instruct_270m", ""),
    ("gemma-3-1b-pt", _GEMMA3_1B, 999_885_952, "gemma3/keras/gemma3_1b", ""),
    ("gemma-3-1b-it", _GEMMA3_1B, 999_885_952, "gemma3/keras/gemma3_instruct_1b", ""),
    ("gemma-3-4b-pt", _GEMMA3_4B, 3_880_099_328, "gemma3/keras/gemma3_4b_text", _TEXT_OF_MULTIMODAL),
    ("gemma-3-4b-it", _GEMMA3_4B, 3_880_099_328, "gemma3/keras/gemma3_instruct_4b_text", _TEXT_OF_MULTIMODAL),
    ("gemma-3-12b-pt", _GEMMA3_12B, 11_765_788_416, "gemma3/keras/gemma3_12b_text", _TEXT_OF_MULTIMODAL),
    ("gemma-3-12b-it", _GEMMA3_12B, 11_765_788_416, "gemma3/keras/gemma3_instruct_12b_text", _TEXT_OF_MULTIMODAL),
    ("gemma-3-27b-pt", _GEMMA3_27B, 27_009_002_240, "gemma3/keras/gemma3_27b_text", _TEXT_OF_MULTIMODAL),
    ("gemma-3-27b-it", _GEMMA3_27B, 27_009_002_240, "gemma3/keras/gemma3_instruct_27b_text", _TEXT_OF_MULTIMODAL),
    ("functiongemma-270m-it", _GEMMA3_270M, 268_098_176, "function-gemma/keras/function_gemma_instruct_270m", ""),
)

# name | decoder | parameters | Hugging Face repository | Kaggle handle
_COMPARED_ROWS = (
    ("llama-2-7b", _LLAMA2_7B, 6_738_415_616, "meta-llama/Llama-2-7b-hf", "keras/llama2/keras/llama2_7b_en"),
    (
        "llama-2-7b-chat",
        _LLAMA2_7B,
        6_738_415_616,
        "meta-llama/Llama-2-7b-chat-hf",
        "keras/llama2/keras/llama2_instruct_7b_en",
    ),
    ("llama-2-13b", _LLAMA2_13B, 13_015_864_320, "meta-llama/Llama-2-13b-hf", None),
    ("llama-2-13b-chat", _LLAMA2_13B, 13_015_864_320, "meta-llama/Llama-2-13b-chat-hf", None),
    (
        "mistral-7b-v0.1",
        _MISTRAL_V01,
        7_241_732_096,
        "mistralai/Mistral-7B-v0.1",
        "keras/mistral/keras/mistral_7b_en",
    ),
    (
        "mistral-7b-instruct-v0.1",
        _MISTRAL_V01,
        7_241_732_096,
        "mistralai/Mistral-7B-Instruct-v0.1",
        "keras/mistral/keras/mistral_instruct_7b_en",
    ),
    (
        "mistral-7b-v0.3",
        _MISTRAL_V03,
        7_248_023_552,
        "mistralai/Mistral-7B-v0.3",
        "keras/mistral/keras/mistral_0.3_7b_en",
    ),
    (
        "mistral-7b-instruct-v0.3",
        _MISTRAL_V03,
        7_248_023_552,
        "mistralai/Mistral-7B-Instruct-v0.3",
        "keras/mistral/keras/mistral_0.3_instruct_7b_en",
    ),
)


def _gemma_models() -> list[PublishedModel]:
    """The Google models; their Hugging Face repository bears their name, and -it marks instruction tuning."""
    models = []
    for name, config, num_parameters, preset, notes in _GEMMA_ROWS:
        is_tuned, is_gemma3 = name.endswith("-it"), config.model_type == "gemma3_text"
        template, stops = ("gemma3", _GEMMA3_STOPS) if is_gemma3 else ("gemma", _GEMMA_STOPS)
        if name.startswith("functiongemma"):
            template, stops = "function_gemma", _FUNCTION_GEMMA_STOPS
        owner = "google" if name.startswith("shieldgemma") else "keras"
        models.append(
            PublishedModel(
                name=name,
                config=dataclasses.replace(config, eos_token_ids=stops) if is_tuned else config,
                huggingface=f"google/{name}",
                kaggle=f"{owner}/{preset}",
                licence=GEMMA_TERMS,
                context=config.max_position_embeddings,
                num_parameters=num_parameters,
                instruction_tuned=is_tuned,
                chat_template=template if is_tuned else None,
                notes=notes,
            )
        )
    return models


def _compared_models() -> list[PublishedModel]:
    """The models that people who choose a Gemma compare it with."""
    models = []
    for name, config, num_parameters, huggingface, kaggle in _COMPARED_ROWS:
        is_tuned, is_llama = "chat" in name or "instruct" in name, config.model_type == "llama"
        is_windowed = config.sliding_window is not None
        models.append(
            PublishedModel(
                name=name,
                config=config,
                huggingface=huggingface,
                kaggle=kaggle,
                licence=LLAMA_2_LICENCE if is_llama else APACHE_2,
                context=8192 if is_windowed else config.max_position_embeddings,
                num_parameters=num_parameters,
                instruction_tuned=is_tuned,
                chat_template=("llama2" if is_llama else "mistral") if is_tuned else None,
                notes=_MISTRAL_V01_NOTE if is_windowed else "",
            )
        )
    return models


PUBLISHED: dict[str, PublishedModel] = {model.name: model for model in (*_gemma_models(), *_compared_models())}


def published(name: str) -> PublishedModel:
    """The published model called `name`.

    Raises:
        NotFoundError: no published model has that name; the message offers close ones.

    Source: the publishers' model cards and configurations; counts as in KerasHub 0.32's presets.
    """
    if name not in PUBLISHED:
        raise NotFoundError(f"{name}: no published model has this name. {close_names(name)}")
    return PUBLISHED[name]


def close_names(name: str) -> str:
    """A sentence that offers the published names most like `name`, or says where they all are."""
    close = difflib.get_close_matches(name.lower(), PUBLISHED, n=3, cutoff=0.6)
    if close:
        return f"Close names: {', '.join(close)}."
    return f"Known names run from {min(PUBLISHED)} to {max(PUBLISHED)}; gemcut.config.PUBLISHED holds all."


def same_decoder(config: DecoderConfig) -> list[PublishedModel]:
    """The published models whose decoder computes the same as `config`; special ids do not count."""

    def arithmetic(other: DecoderConfig) -> DecoderConfig:
        return dataclasses.replace(
            other, bos_token_id=None, pad_token_id=None, eos_token_ids=(), model_type="", max_position_embeddings=1
        )

    return [model for model in PUBLISHED.values() if arithmetic(model.config) == arithmetic(config)]
