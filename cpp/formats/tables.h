// Tables that C++ shares with Python. Written by scripts/cpp_tables.py from src/gemcut; do not edit.
#pragma once

#include "formats/table_types.h"

namespace gemcut::tables {

inline constexpr int64_t kMaxKeys = 65536;

inline constexpr int64_t kMaxTensors = 262144;

inline constexpr int64_t kMaxArrayItems = 8388608;

inline constexpr int64_t kMaxKeyBytes = 65536;

inline constexpr int64_t kMaxDimensions = 4;

inline constexpr int64_t kMaxAlignment = 65536;

inline constexpr int64_t kMaxHeaderBytes = 100000000;

inline constexpr int64_t kMaxPaddingRows = 128;

inline constexpr std::string_view kModelTensors[] = {
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
};

inline constexpr std::string_view kSizes[] = {
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
};

inline constexpr std::string_view kTokenIds[] = {
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
};

inline constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", 1, 4},
    {1, "F16", 1, 2},
    {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},
    {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},
    {9, "Q8_1", 32, 40},
    {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},
    {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},
};

inline constexpr SafetensorsType kSafetensorsTypes[] = {
    {"BF16", 2},
    {"BOOL", 1},
    {"F16", 2},
    {"F32", 4},
    {"F64", 8},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
    {"I16", 2},
    {"I32", 4},
    {"I64", 8},
    {"I8", 1},
    {"U16", 2},
    {"U32", 4},
    {"U64", 8},
    {"U8", 1},
};

inline constexpr Architecture kArchitectures[] = {
    {"gemma", "gemma", {true, true, false, false, Activation::gelu_pytorch_tanh}, 0, 0, 0.0, 0.0, 0, 0.0, true},
    {"gemma2", "gemma2", {true, true, true, false, Activation::gelu_pytorch_tanh}, 2, 4096, 50.0, 30.0, 46, 0.0,
     true},
    {"gemma3", "gemma3_text", {true, true, true, true, Activation::gelu_pytorch_tanh}, 6, 0, 0.0, 0.0, 62, 10000.0,
     false},
    {"llama", "llama", {false, false, false, false, Activation::silu}, 0, 0, 0.0, 0.0, 0, 0.0, true},
};

inline constexpr std::string_view kGgufUsedKeys[] = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "final_logit_softcapping",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.type",
    "vocab_size",
};

inline constexpr std::string_view kGgufHarmlessKeys[] = {
    "mm.tokens_per_image",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "tensor_data_layout",
};

inline constexpr NeutralValue kGgufNeutralValues[] = {
    {"expert_count", NeutralValue::Kind::number, 0.0, "0"},
    {"expert_used_count", NeutralValue::Kind::number, 0.0, "0"},
    {"attention.causal", NeutralValue::Kind::number, 1.0, "true"},
    {"use_parallel_residual", NeutralValue::Kind::number, 0.0, "false"},
    {"rope.scaling.attn_factor", NeutralValue::Kind::number, 1.0, "1.0"},
};

inline constexpr std::string_view kKeysOf_gemma[] = {
    "tie_word_embeddings",
};

inline constexpr std::string_view kKeysOf_gemma2[] = {
    "query_pre_attn_scalar",
    "sliding_window",
    "sliding_window_size",
    "layer_types",
    "tie_word_embeddings",
    "attn_logit_softcapping",
    "final_logit_softcapping",
};

inline constexpr std::string_view kKeysOf_gemma3_text[] = {
    "query_pre_attn_scalar",
    "sliding_window",
    "sliding_window_size",
    "layer_types",
    "tie_word_embeddings",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "rope_local_base_freq",
};

inline constexpr std::string_view kKeysOf_llama[] = {
    "tie_word_embeddings",
};

inline constexpr std::string_view kKeysOf_mistral[] = {
    "tie_word_embeddings",
    "sliding_window",
};

inline constexpr Family kFamilies[] = {
    {"gemma", "GemmaForCausalLM", {256000, 3072, 24576, 28, 16, 16, 256, 8192}, {2, 1, 0}, "hidden_act",
     "gelu_pytorch_tanh", {true, true, false, false, Activation::gelu_pytorch_tanh}, kKeysOf_gemma, true, 0, 0.0, 0.0,
     10000.0, 0.0},
    {"gemma2", "Gemma2ForCausalLM", {256000, 2304, 9216, 26, 8, 4, 256, 8192}, {2, 1, 0}, "hidden_activation",
     "gelu_pytorch_tanh", {true, true, true, false, Activation::gelu_pytorch_tanh}, kKeysOf_gemma2, true, 4096, 50.0,
     30.0, 10000.0, 0.0},
    {"gemma3_text", "Gemma3ForCausalLM", {262208, 2304, 9216, 26, 8, 4, 256, 131072}, {2, 1, 0}, "hidden_activation",
     "gelu_pytorch_tanh", {true, true, true, true, Activation::gelu_pytorch_tanh}, kKeysOf_gemma3_text, true, 4096,
     0.0, 0.0, 1000000.0, 10000.0},
    {"llama", "LlamaForCausalLM", {32000, 4096, 11008, 32, 32, -1, -1, 2048}, {1, 2, -1}, "hidden_act", "silu",
     {false, false, false, false, Activation::gelu_pytorch_tanh}, kKeysOf_llama, false, 0, 0.0, 0.0, 10000.0, 0.0},
    {"mistral", "MistralForCausalLM", {32000, 4096, 14336, 32, 32, 8, -1, 131072}, {1, 2, -1}, "hidden_act", "silu",
     {false, false, false, false, Activation::gelu_pytorch_tanh}, kKeysOf_mistral, false, 4096, 0.0, 0.0, 10000.0,
     0.0},
};

inline constexpr std::string_view kCommonKeys[] = {
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "vocab_size",
};

inline constexpr std::string_view kHarmlessKeys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_model_name_or_path",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
};

inline constexpr std::string_view kMultimodalKeys[] = {
    "boi_token_id",
    "boi_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "image_token_id",
    "image_token_index",
    "mm_tokens_per_image",
    "text_config",
    "vision_config",
};

inline constexpr NeutralValue kNeutralValues[] = {
    {"attention_bias", NeutralValue::Kind::number, 0.0, "false"},
    {"mlp_bias", NeutralValue::Kind::number, 0.0, "false"},
    {"use_bidirectional_attention", NeutralValue::Kind::number, 0.0, "false"},
    {"use_bidirectional_attention", NeutralValue::Kind::null, 0.0, ""},
    {"pretraining_tp", NeutralValue::Kind::number, 1.0, "1"},
    {"pretraining_tp", NeutralValue::Kind::null, 0.0, ""},
    {"quantization_config", NeutralValue::Kind::null, 0.0, ""},
    {"partial_rotary_factor", NeutralValue::Kind::number, 1.0, "1.0"},
    {"partial_rotary_factor", NeutralValue::Kind::null, 0.0, ""},
    {"is_encoder_decoder", NeutralValue::Kind::number, 0.0, "false"},
    {"add_cross_attention", NeutralValue::Kind::number, 0.0, "false"},
    {"tie_encoder_decoder", NeutralValue::Kind::number, 0.0, "false"},
    {"pruned_heads", NeutralValue::Kind::empty_object, 0.0, ""},
    {"pruned_heads", NeutralValue::Kind::null, 0.0, ""},
    {"sliding_window", NeutralValue::Kind::null, 0.0, ""},
    {"use_sliding_window", NeutralValue::Kind::number, 0.0, "false"},
    {"use_sliding_window", NeutralValue::Kind::null, 0.0, ""},
    {"attn_logit_softcapping", NeutralValue::Kind::null, 0.0, ""},
    {"final_logit_softcapping", NeutralValue::Kind::null, 0.0, ""},
    {"hidden_activation", NeutralValue::Kind::text, 0.0, "gelu_pytorch_tanh"},
    {"hidden_activation", NeutralValue::Kind::null, 0.0, ""},
    {"hidden_act", NeutralValue::Kind::text, 0.0, "gelu_pytorch_tanh"},
    {"hidden_act", NeutralValue::Kind::text, 0.0, "gelu"},
    {"hidden_act", NeutralValue::Kind::null, 0.0, ""},
};

inline constexpr Rename kHfPrefixes[] = {
    {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
    {"model.", "model."},
    {"lm_head.", "lm_head."},
    {"language_model.", "model."},
    {"embed_tokens.", "model.embed_tokens."},
    {"layers.", "model.layers."},
    {"norm.", "model.norm."},
};

inline constexpr Rename kHfTowers[] = {
    {"vision_tower.", "part of the vision tower"},
    {"model.vision_tower.", "part of the vision tower"},
    {"multi_modal_projector.", "part of the vision projector"},
    {"model.multi_modal_projector.", "part of the vision projector"},
};

inline constexpr Rename kGgufGlobals[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

inline constexpr Rename kGgufLayer[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
};

inline constexpr Rename kGgufPlainNorms[] = {
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
};

inline constexpr Rename kGgufPostNorms[] = {
    {"post_attention_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
};

inline constexpr LayerTensor kLayerTensors[] = {
    {"input_layernorm.weight", Axis::hidden, Axis::none, false, false},
    {"self_attn.q_proj.weight", Axis::query_rows, Axis::hidden, false, false},
    {"self_attn.k_proj.weight", Axis::kv_rows, Axis::hidden, false, false},
    {"self_attn.v_proj.weight", Axis::kv_rows, Axis::hidden, false, false},
    {"self_attn.o_proj.weight", Axis::hidden, Axis::query_rows, false, false},
    {"self_attn.q_norm.weight", Axis::head, Axis::none, true, false},
    {"self_attn.k_norm.weight", Axis::head, Axis::none, true, false},
    {"post_attention_layernorm.weight", Axis::hidden, Axis::none, false, false},
    {"pre_feedforward_layernorm.weight", Axis::hidden, Axis::none, false, true},
    {"post_feedforward_layernorm.weight", Axis::hidden, Axis::none, false, true},
    {"mlp.gate_proj.weight", Axis::intermediate, Axis::hidden, false, false},
    {"mlp.up_proj.weight", Axis::intermediate, Axis::hidden, false, false},
    {"mlp.down_proj.weight", Axis::hidden, Axis::intermediate, false, false},
};

}  // namespace gemcut::tables
