// gemcut._native: the engine for Python. Thin: arguments in, arrays out, errors translated; the GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <tuple>

#include "bindings/batch.h"
#include "bindings/shared_engine.h"
#include "bindings/text.h"
#include "engine/engine.h"
#include "engine/machine.h"
#include "formats/checkpoint.h"
#include "formats/error.h"
#include "formats/tokenizer.h"
#include "kernels/kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace gemcut {
namespace {

using TokenIds = std::vector<int32_t>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
// Name of a matrix, A (r, in), B (out, r) and their scale.
using Update = std::tuple<std::string, Floats, Floats, float>;
using Mask = nb::ndarray<const bool, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Words = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Draws = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const char* error_class(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage: return "UsageError";
    case ErrorKind::context_length: return "ContextLengthError";
    case ErrorKind::config: return "ConfigError";
    case ErrorKind::checkpoint: return "CheckpointError";
    case ErrorKind::tokenizer: return "TokenizerError";
    case ErrorKind::not_found: return "NotFoundError";
    default: return "BackendError";
  }
}

void raise_python(const char* name, const char* message) {
  PyErr_SetString(nb::module_::import_("gemcut.errors").attr(name).ptr(), message);
}

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    raise_python(error_class(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    raise_python("BackendError", "[bindings.module] memory: the system gave none. Ask for a shorter context.");
  }
}

// Lets Ctrl-C through; called without the GIL.
void check_signals() {
  const nb::gil_scoped_acquire acquired;
  if (PyErr_CheckSignals()) throw nb::python_error();
}

// A vector as a NumPy array that owns it.
template <class T>
nb::ndarray<nb::numpy, T> as_array(std::vector<T>&& values, std::initializer_list<size_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::ndarray<nb::numpy, T>(kept->data(), shape, owner);
}

SamplingOptions sampling_options(nb::handle options) {
  SamplingOptions result;
  result.temperature = nb::cast<float>(options.attr("temperature"));
  result.top_k = nb::cast<int64_t>(options.attr("top_k"));
  result.top_p = nb::cast<float>(options.attr("top_p"));
  result.min_p = nb::cast<float>(options.attr("min_p"));
  result.repetition_penalty = nb::cast<float>(options.attr("repetition_penalty"));
  result.presence_penalty = nb::cast<float>(options.attr("presence_penalty"));
  result.frequency_penalty = nb::cast<float>(options.attr("frequency_penalty"));
  result.logit_bias = nb::cast<std::vector<std::pair<int32_t, float>>>(options.attr("logit_bias"));
  return result;
}

// (token ids, log-probabilities, ids of alternatives, their log-probabilities): (B, n), (B, n), (B, n, k), (B, n, k).
nb::tuple arrays_of(const std::vector<std::vector<Choice>>& steps, int num_top) {
  const size_t num_steps = steps.size(), size = steps.front().size();
  const size_t top = num_top > 0 ? steps.front().front().top.size() : 0;
  TokenIds token_ids, top_ids;
  std::vector<float> logprobs, top_logprobs;
  for (size_t row = 0; row < size; ++row) {
    for (const std::vector<Choice>& choices : steps) {
      token_ids.push_back(choices[row].token_id);
      logprobs.push_back(choices[row].logprob);
      for (const auto& [token_id, logprob] : choices[row].top) {
        top_ids.push_back(token_id);
        top_logprobs.push_back(logprob);
      }
    }
  }
  const nb::object none = nb::none();
  const bool has_logprobs = num_top >= 0, has_top = num_top > 0;
  return nb::make_tuple(as_array(std::move(token_ids), {size, num_steps}),
                        has_logprobs ? nb::cast(as_array(std::move(logprobs), {size, num_steps})) : none,
                        has_top ? nb::cast(as_array(std::move(top_ids), {size, num_steps, top})) : none,
                        has_top ? nb::cast(as_array(std::move(top_logprobs), {size, num_steps, top})) : none);
}

// A mask of a byte for each token as choose_token has it, row after row.
std::vector<uint32_t> packed(const Mask& mask) {
  const size_t rows = mask.shape(0), vocab_size = mask.shape(1), words = (vocab_size + 31) / 32;
  std::vector<uint32_t> result(rows * words);
  for (size_t row = 0; row < rows; ++row)
    for (size_t id = 0; id < vocab_size; ++id)
      result[row * words + id / 32] |= uint32_t{mask.data()[row * vocab_size + id]} << id % 32;
  return result;
}

nb::tuple decode(Batch& batch, int64_t num_steps, const nb::list& options, const Floats& uniforms, int num_top,
                 const nb::object& mask, TokenIds stop_token_ids) {
  DecodeRequest request{.num_steps = num_steps, .options = {}, .uniforms = {uniforms.data(), uniforms.size()},
                        .num_top = num_top, .mask = {}, .stop_token_ids = std::move(stop_token_ids)};
  for (const nb::handle each : options) request.options.push_back(sampling_options(each));
  if (!mask.is_none()) request.mask = packed(nb::cast<Mask>(mask));
  std::vector<std::vector<Choice>> steps;
  {
    const nb::gil_scoped_release released;
    steps = batch.decode(request, check_signals);
  }
  return arrays_of(steps, num_top);
}

// (token ids, log-probabilities or None, pairs of alternatives for each or None) of one text.
nb::tuple lists_of(const std::vector<Choice>& choices, int num_top) {
  nb::list token_ids, logprobs, top;
  for (const Choice& choice : choices) {
    token_ids.append(choice.token_id);
    if (num_top >= 0) logprobs.append(choice.logprob);
    if (num_top > 0) top.append(nb::cast(choice.top));
  }
  const nb::object none = nb::none();
  return nb::make_tuple(token_ids, num_top >= 0 ? nb::object(logprobs) : none, num_top > 0 ? nb::object(top) : none);
}

// The shares are gemcut.interfaces.Share; their arrays are held until the pass is done.
nb::list run_text_pass(const nb::list& parts, int64_t num_steps) {
  std::vector<Share> shares;
  std::vector<Draws> draws;
  std::vector<Words> masks;
  for (const nb::handle part : parts) {
    Share& share = shares.emplace_back();
    share.text = nb::cast<Text*>(part.attr("text"));
    share.max_tokens = nb::cast<int64_t>(part.attr("max_tokens"));
    if (const nb::object uniforms = part.attr("uniforms"); !uniforms.is_none()) {
      draws.push_back(nb::cast<Draws>(uniforms));
      share.uniforms = {draws.back().data(), draws.back().size()};
    }
    if (const nb::object allowed = part.attr("allowed"); !allowed.is_none()) {
      masks.push_back(nb::cast<Words>(allowed));
      share.allowed = {masks.back().data(), masks.back().size()};
    }
  }
  std::vector<std::vector<Choice>> chosen;
  {
    const nb::gil_scoped_release released;
    chosen = run_pass(shares, num_steps, check_signals);
  }
  nb::list results;
  for (size_t i = 0; i < shares.size(); ++i) results.append(lists_of(chosen[i], shares[i].text->num_top()));
  return results;
}

nb::object rows(SharedEngine& engine, const TokenIds& token_ids, bool want_hidden) {
  const Config& config = [&]() -> const Config& {
    const auto held = engine.lock();
    return engine.engine().config();
  }();
  const size_t width = static_cast<size_t>(want_hidden ? config.hidden_size : config.vocab_size);
  std::vector<float> values(token_ids.size() * width);
  {
    const nb::gil_scoped_release released;
    engine.rows(token_ids, want_hidden, values, check_signals);
  }
  return nb::cast(as_array(std::move(values), {token_ids.size(), width}));
}

// (log-probabilities, whether each of the tokens is the best one) of each text's last tokens.
nb::list score(SharedEngine& engine, const std::vector<TokenIds>& token_ids, const std::vector<int64_t>& num_scored) {
  std::vector<ScoredText> texts;
  for (size_t i = 0; i < token_ids.size(); ++i) texts.push_back({token_ids[i], num_scored.at(i)});
  std::vector<TextScore> scores;
  {
    const nb::gil_scoped_release released;
    scores = engine.score(texts, check_signals);
  }
  nb::list results;
  for (TextScore& each : scores) {
    const size_t count = each.logprobs.size();
    results.append(nb::make_tuple(as_array(std::move(each.logprobs), {count}), each.is_greedy));
  }
  return results;
}

// To Python's logger; called without the GIL.
void log_warning(const std::string& message) {
  const nb::gil_scoped_acquire acquired;
  nb::module_::import_("logging").attr("getLogger")("gemcut").attr("warning")("%s", message);
}

std::shared_ptr<SharedEngine> load_engine(const Checkpoint& checkpoint, int num_threads, bool float32_cache,
                                          bool use_layout_cache, const std::string& layout_folder,
                                          int64_t layout_max_bytes, int64_t prefix_cache_bytes,
                                          const std::vector<Update>& updates) {
  EngineOptions options;
  options.num_threads = num_threads;
  options.cache_type = float32_cache ? CacheType::f32 : CacheType::bf16;
  options.use_layout_cache = use_layout_cache;
  options.layout_folder = layout_folder;
  options.layout_max_bytes = layout_max_bytes;
  for (const auto& [name, a, b, scale] : updates) {
    const auto rank = static_cast<int64_t>(a.shape(0));
    if (static_cast<int64_t>(b.shape(1)) != rank)
      throw Error(ErrorKind::usage, "[bindings.module] updates: the factors of " + name + " are of two ranks, expected one.");
    options.adapter.push_back({name, rank, static_cast<int64_t>(b.shape(0)), static_cast<int64_t>(a.shape(1)), a.data(),
                               b.data(), scale});
  }
  options.warn = log_warning;
  const nb::gil_scoped_release released;
  return std::make_shared<SharedEngine>(Engine::load(checkpoint, options), prefix_cache_bytes);
}

// A fact of an engine that may have been closed.
template <class T, T (Engine::*fact)() const>
std::decay_t<T> fact_of(const SharedEngine& engine) {
  const auto held = engine.lock();
  return (engine.engine().*fact)();
}

void bind_checkpoint(nb::module_& module) {
  nb::class_<Tensor>(module, "Tensor")
      .def_ro("name", &Tensor::name)
      .def_ro("source", &Tensor::source)
      .def_prop_ro("type", [](const Tensor& tensor) { return type_traits(tensor.type).name; })
      .def_ro("rows", &Tensor::rows)
      .def_ro("columns", &Tensor::columns)
      .def_ro("num_bytes", &Tensor::num_bytes);
  nb::class_<Checkpoint>(module, "Checkpoint")
      .def(nb::new_([](const std::string& path) { return std::shared_ptr<Checkpoint>(Checkpoint::open(path)); }),
           "path"_a)
      .def_prop_ro("path", &Checkpoint::path)
      .def_prop_ro("config_json", [](const Checkpoint& checkpoint) { return config_to_json(checkpoint.config()); })
      .def_prop_ro("metadata", &Checkpoint::metadata)
      .def_prop_ro("unused_tensors", &Checkpoint::unused_tensors)
      .def_prop_ro("fingerprint", &Checkpoint::fingerprint)
      .def_prop_ro("tensors",
                   [](const Checkpoint& checkpoint) {
                     std::vector<Tensor> tensors;
                     for (const auto& [name, tensor] : checkpoint.tensors()) tensors.push_back(tensor);
                     return tensors;
                   })
      .def_prop_ro("has_vocabulary", [](const Checkpoint& checkpoint) {
        return checkpoint.vocabulary().kind != VocabularySource::Kind::none;
      });
}

nb::object id_or_none(int32_t token_id) { return token_id < 0 ? nb::object(nb::none()) : nb::cast(token_id); }

nb::bytes bytes_of(const std::string& text) { return nb::bytes(text.data(), text.size()); }

std::vector<TextPart> text_parts(const nb::list& parts) {
  std::vector<TextPart> result;
  for (const nb::handle part : parts) {
    const bool is_text = nb::isinstance<nb::str>(part);
    result.push_back(is_text ? TextPart{nb::cast<std::string>(part)} : TextPart{{}, nb::cast<int32_t>(part)});
  }
  return result;
}

void bind_tokenizer(nb::module_& module) {
  nb::class_<Tokenizer>(module, "Tokenizer")
      .def(nb::new_([](const Checkpoint& checkpoint, const std::string& where) {
             const nb::gil_scoped_release released;
             return std::shared_ptr<Tokenizer>(Tokenizer::make(checkpoint.vocabulary(), where));
           }),
           "checkpoint"_a, "where"_a)
      // A server has others to answer while a long text is encoded.
      .def("encode", &Tokenizer::encode, "text"_a, "parse_special"_a = false, "add_bos"_a = true,
           nb::call_guard<nb::gil_scoped_release>())
      .def("encode_parts",
           [](const Tokenizer& self, const nb::list& parts, bool add_bos) {
             const std::vector<TextPart> texts = text_parts(parts);
             const nb::gil_scoped_release released;
             return self.encode_parts(texts, add_bos);
           })
      .def("split_special", [](const Tokenizer& self, const std::string& text) {
        nb::list parts;
        for (const TextPart& part : self.split_special(text)) {
          parts.append(part.token_id < 0 ? nb::cast(part.text) : nb::cast(part.token_id));
        }
        return parts;
      })
      .def("decode", &Tokenizer::decode)
      .def("token_bytes", [](const Tokenizer& self, int32_t token_id) { return bytes_of(self.token_bytes(token_id)); })
      .def("bytes_at_start",
           [](const Tokenizer& self, int32_t token_id) { return bytes_of(self.bytes_at_start(token_id)); })
      .def("stays_at_start", [](const Tokenizer& self, const nb::bytes& shown) {
        return self.stays_at_start({shown.c_str(), shown.size()});
      })
      .def("piece", [](const Tokenizer& self, int32_t token_id) { return std::string(self.piece(token_id)); })
      .def("id_of", [](const Tokenizer& self, const std::string& piece) { return id_or_none(self.id_of(piece)); })
      .def_prop_ro("special_token_ids",
                   [](const Tokenizer& self) {
                     TokenIds special;
                     for (int32_t id = 0; id < self.vocab_size(); ++id)
                       if (self.is_special(id)) special.push_back(id);
                     return special;
                   })
      .def_prop_ro("max_text_token_id",
                   [](const Tokenizer& self) {
                     int32_t highest = self.vocab_size() - 1;
                     while (highest > 0 && self.is_special(highest)) --highest;
                     return highest;
                   })
      .def_prop_ro("vocab_size", &Tokenizer::vocab_size)
      .def_prop_ro("bos_token_id", [](const Tokenizer& self) { return id_or_none(self.bos_token_id()); })
      .def_prop_ro("eos_token_id", [](const Tokenizer& self) { return id_or_none(self.eos_token_id()); })
      .def_prop_ro("pad_token_id", [](const Tokenizer& self) { return id_or_none(self.pad_token_id()); })
      .def_prop_ro("unknown_token_id", [](const Tokenizer& self) { return id_or_none(self.unknown_token_id()); })
      .def_prop_ro("add_bos", &Tokenizer::add_bos)
      .def_prop_ro("chat_template", &Tokenizer::chat_template);
}

void bind_engine(nb::module_& module) {
  nb::class_<SharedEngine>(module, "Engine")
      .def(nb::new_(&load_engine), "checkpoint"_a, nb::kw_only(), "num_threads"_a = 0, "float32_cache"_a = false,
           "use_layout_cache"_a = true, "layout_folder"_a = "", "layout_max_bytes"_a = 0,
           "prefix_cache_bytes"_a = 0, "updates"_a = std::vector<Update>())
      .def("close", &SharedEngine::close, nb::call_guard<nb::gil_scoped_release>())
      .def("logits", [](SharedEngine& self, const TokenIds& token_ids) { return rows(self, token_ids, false); })
      .def("hidden_states", [](SharedEngine& self, const TokenIds& token_ids) { return rows(self, token_ids, true); })
      .def("score", &score, "token_ids"_a, "num_scored"_a)
      .def("sequence_bytes", &SharedEngine::sequence_bytes)
      .def_prop_rw("prefix_cache_limit", &SharedEngine::prefix_cache_limit, &SharedEngine::set_prefix_cache_limit)
      .def_prop_ro("prefix_cache_bytes", &SharedEngine::prefix_cache_bytes)
      .def_prop_rw("prompt_lookup", &SharedEngine::prompt_lookup, &SharedEngine::set_prompt_lookup)
      .def_prop_ro("lookup_counts",
                   [](const SharedEngine& self) {
                     const LookupCounts counts = self.lookup_counts();
                     return nb::make_tuple(counts.guessed, counts.right);
                   })
      .def("load_state",
           [](std::shared_ptr<SharedEngine> self, const std::string& path, int64_t max_tokens) {
             const nb::gil_scoped_release released;
             return std::make_unique<Batch>(std::move(self), path, max_tokens);
           },
           "path"_a, "max_tokens"_a)
      .def_prop_ro("isa", &fact_of<const std::string&, &Engine::isa>)
      .def_prop_ro("num_threads", &fact_of<int, &Engine::num_threads>)
      .def_prop_ro("dtype", &fact_of<std::string, &Engine::dtype>)
      .def_prop_ro("weight_bytes", &fact_of<int64_t, &Engine::weight_bytes>)
      .def_prop_ro("weight_bytes_per_token", &fact_of<int64_t, &Engine::weight_bytes_per_token>)
      .def_prop_ro("multiply_adds_per_token", &fact_of<int64_t, &Engine::multiply_adds_per_token>)
      .def_prop_ro("from_layout_file", &fact_of<bool, &Engine::from_layout_file>);
}

void bind_texts(nb::module_& module) {
  nb::class_<Batch>(module, "Batch")
      .def(nb::init<std::shared_ptr<SharedEngine>, int64_t, int64_t>(), "engine"_a, "batch_size"_a, "max_tokens"_a)
      .def("prefill",
           [](Batch& self, const std::vector<TokenIds>& token_ids) {
             const nb::gil_scoped_release released;
             self.prefill(token_ids, check_signals);
           })
      .def("decode", &decode, "num_steps"_a, "options"_a, "uniforms"_a, "num_top"_a, "mask"_a.none(),
           "stop_token_ids"_a)
      .def("save_state",
           [](Batch& self, int64_t row, const std::string& path) {
             const nb::gil_scoped_release released;
             self.save_state(row, path, check_signals);
           },
           "row"_a, "path"_a)
      .def_prop_ro("num_reused", &Batch::num_reused)
      .def_prop_ro("capacity", &Batch::capacity)
      .def_prop_ro("num_bytes", &Batch::num_bytes)
      .def_prop_ro("token_ids", &Batch::token_ids);
  nb::class_<Text>(module, "Text")
      .def(nb::new_([](std::shared_ptr<SharedEngine> engine, const TokenIds& token_ids, int64_t max_tokens,
                       const nb::object& options, int num_top, TokenIds stop_token_ids) {
             TextOptions chosen{sampling_options(options), num_top, std::move(stop_token_ids)};
             const nb::gil_scoped_release released;
             return std::make_unique<Text>(std::move(engine), token_ids, max_tokens, std::move(chosen));
           }),
           "engine"_a, "token_ids"_a, "max_tokens"_a, "options"_a, "num_top"_a, "stop_token_ids"_a)
      .def("append", &Text::append, "token_ids"_a)
      .def_prop_ro("num_reused", &Text::num_reused)
      .def_prop_ro("num_waiting", &Text::num_waiting);
  module.def("run_pass", &run_text_pass, "shares"_a, "num_steps"_a);
}

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "Gemcut's C++ engine; gemcut.engine is its face.";
  nb::register_exception_translator(translate);
  bind_checkpoint(module);
  bind_tokenizer(module);
  bind_engine(module);
  bind_texts(module);
  module.def("isa", [] { return choose_kernels().name; }, "The instruction set that the kernels use here.");
  module.def("measured_read_bandwidth", [](int num_threads) {
    const nb::gil_scoped_release released;
    return measured_read_bandwidth(num_threads);
  });
  module.def("int8_peak_mac_per_second", [](int num_threads) {
    const nb::gil_scoped_release released;
    return int8_peak_mac_per_second(num_threads);
  });
  module.def("usable_cores", [] { return usable_cores(); });
  module.def("available_memory_bytes", [] { return available_memory_bytes(); });
  module.def("cache_sizes", [] {
    const CacheSizes sizes = cache_sizes();
    return nb::make_tuple(sizes.l1_bytes, sizes.l2_bytes, sizes.l3_bytes);
  });
}

}  // namespace gemcut
