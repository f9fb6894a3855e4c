#include "engine/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "engine/packing.h"
#include "formats/error.h"

namespace gemcut {
namespace {

const char* const embedding_name = "model.embed_tokens.weight";
const char* const head_name = "lm_head.weight";
const char* const final_norm_name = "model.norm.weight";

std::string layer_name(size_t layer, const char* name) {
  return "model.layers." + std::to_string(layer) + "." + name + ".weight";
}

int64_t stored_row_bytes(const Tensor& tensor) {
  const TypeTraits& traits = type_traits(tensor.type);
  return tensor.columns / traits.block_values * traits.block_bytes;
}

// The row of the file that holds row `row` of ours. Llama's GGUF files keep the two halves of a head that rotate
// together as adjacent rows.
int64_t stored_row(const Tensor& tensor, int64_t head_dim, int64_t row) {
  if (tensor.transform != Transform::unpermute_query && tensor.transform != Transform::unpermute_key) return row;
  const int64_t head = row / head_dim, in_head = row % head_dim, half = head_dim / 2;
  return head * head_dim + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

void pack_matrix_groups(const Checkpoint& checkpoint, const Tensor& tensor, const WeightPlace& place, int64_t first,
                        int64_t end, std::byte* region) {
  const int64_t row_bytes = stored_row_bytes(tensor);
  const GroupGeometry geometry = group_geometry(place.format, place.columns);
  std::vector<std::byte> stored(static_cast<size_t>(row_bytes * group_rows));
  for (int64_t group = first; group < end; ++group) {
    const std::byte* rows[group_rows] = {};
    const int64_t begin = group * group_rows, count = std::min(group_rows, place.rows - begin);
    for (int64_t r = 0; r < count; ++r) rows[r] = stored.data() + r * row_bytes;
    if (tensor.transform == Transform::none) {
      checkpoint.copy(tensor, static_cast<size_t>(begin * row_bytes), static_cast<size_t>(count * row_bytes), stored.data());
    } else {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t row = stored_row(tensor, checkpoint.config().head_dim, begin + r);
        checkpoint.copy(tensor, static_cast<size_t>(row * row_bytes), static_cast<size_t>(row_bytes), stored.data() + r * row_bytes);
      }
    }
    const PackedMatrix matrix{place.format, place.rows, place.columns, region + place.offset, geometry};
    const auto writable = [](const std::byte* part) { return const_cast<std::byte*>(part); };
    if (place.format == Format::s8)
      pack_split_group(rows, place.columns, writable(matrix.group(group)), writable(matrix.low_group(group)),
                       writable(matrix.low_norms(group)));
    else
      pack_group(tensor.type, rows, place.columns, writable(matrix.group(group)));
  }
}

void pack_vector(const Checkpoint& checkpoint, const Tensor& tensor, const WeightPlace& place, std::byte* region) {
  std::vector<std::byte> stored(tensor.num_bytes);
  checkpoint.copy(tensor, 0, tensor.num_bytes, stored.data());
  float* gain = reinterpret_cast<float*>(region + place.offset);
  dequantize_row(tensor.type, stored.data(), tensor.columns, gain);
  if (checkpoint.config().norm_unit_offset && tensor.transform == Transform::none)
    for (int64_t i = 0; i < tensor.columns; ++i) gain[i] += 1.0f;
}

}  // namespace

std::vector<WeightPlace> plan_weights(const Checkpoint& checkpoint) {
  std::vector<WeightPlace> places;
  int64_t offset = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    WeightPlace place;
    place.name = name;
    place.is_matrix = name.find("norm") == std::string::npos;
    place.rows = tensor.rows;
    place.columns = tensor.columns;
    place.offset = offset;
    if (place.is_matrix) {
      const bool is_head = name == (checkpoint.config().tie_word_embeddings ? embedding_name : head_name);
      place.format = is_head && tensor.type == TensorType::q8_0 ? Format::s8 : format_for(tensor.type);
      place.bytes = PackedMatrix{place.format, place.rows, place.columns, nullptr,
                                 group_geometry(place.format, place.columns)}.num_bytes();
    } else {
      place.bytes = align64(tensor.columns * 4);
    }
    offset += align64(place.bytes);
    places.push_back(std::move(place));
  }
  return places;
}

int64_t region_bytes(const std::vector<WeightPlace>& places) {
  return places.empty() ? 0 : places.back().offset + align64(places.back().bytes);
}

void pack_weights(const Checkpoint& checkpoint, const std::vector<WeightPlace>& places, ThreadPool& pool,
                  std::byte* region) {
  struct Item {
    const WeightPlace* place;
    int64_t first, end;
  };
  constexpr int64_t grain = 64;  // groups
  std::vector<Item> items;
  for (const WeightPlace& place : places) {
    const int64_t groups = place.is_matrix ? (place.rows + group_rows - 1) / group_rows : 1;
    for (int64_t first = 0; first < groups; first += grain)
      items.push_back({&place, first, std::min(groups, first + grain)});
  }
  std::mutex mutex;
  std::exception_ptr failure;
  auto pack = [&](int64_t index) {
    const Item& item = items[static_cast<size_t>(index)];
    const Tensor& tensor = checkpoint.tensors().at(item.place->name);
    try {
      if (item.place->is_matrix) pack_matrix_groups(checkpoint, tensor, *item.place, item.first, item.end, region);
      else pack_vector(checkpoint, tensor, *item.place, region);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  pool.run([&](int thread) { pool.share(thread, static_cast<int64_t>(items.size()), pack); });
  if (failure) std::rethrow_exception(failure);
  checkpoint.check_unchanged();
}

std::vector<const PackedMatrix*> Weights::read_per_token() const {
  std::vector<const PackedMatrix*> matrices;
  for (const LayerWeights& layer : layers)
    for (const PackedMatrix* matrix :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
      matrices.push_back(matrix);
  matrices.push_back(&head);
  return matrices;
}

Weights bind_weights(const Config& config, const std::vector<WeightPlace>& places,
                     std::shared_ptr<const std::byte> region) {
  std::map<std::string, const WeightPlace*> by_name;
  for (const WeightPlace& place : places) by_name[place.name] = &place;
  const std::byte* base = region.get();
  auto matrix = [&](const std::string& name) {
    const WeightPlace& place = *by_name.at(name);
    return PackedMatrix{place.format, place.rows, place.columns, base + place.offset,
                        group_geometry(place.format, place.columns)};
  };
  auto vector = [&](const std::string& name) {
    return reinterpret_cast<const float*>(base + by_name.at(name)->offset);
  };
  Weights weights;
  weights.embedding = matrix(embedding_name);
  weights.head = config.tie_word_embeddings ? weights.embedding : matrix(head_name);
  weights.final_norm = vector(final_norm_name);
  for (size_t i = 0; i < static_cast<size_t>(config.num_hidden_layers); ++i) {
    LayerWeights layer;
    layer.q = matrix(layer_name(i, "self_attn.q_proj"));
    layer.k = matrix(layer_name(i, "self_attn.k_proj"));
    layer.v = matrix(layer_name(i, "self_attn.v_proj"));
    layer.o = matrix(layer_name(i, "self_attn.o_proj"));
    layer.gate = matrix(layer_name(i, "mlp.gate_proj"));
    layer.up = matrix(layer_name(i, "mlp.up_proj"));
    layer.down = matrix(layer_name(i, "mlp.down_proj"));
    layer.input_norm = vector(layer_name(i, "input_layernorm"));
    const float* after_attention = vector(layer_name(i, "post_attention_layernorm"));
    // With post-norms that name is one of them; without, it is the norm before the feed-forward.
    if (config.post_norms) {
      layer.post_attention_norm = after_attention;
      layer.pre_feedforward_norm = vector(layer_name(i, "pre_feedforward_layernorm"));
      layer.post_feedforward_norm = vector(layer_name(i, "post_feedforward_layernorm"));
    } else {
      layer.pre_feedforward_norm = after_attention;
    }
    if (config.qk_norm) {
      layer.q_norm = vector(layer_name(i, "self_attn.q_norm"));
      layer.k_norm = vector(layer_name(i, "self_attn.k_norm"));
    }
    weights.layers.push_back(layer);
  }
  weights.bytes = region_bytes(places);
  weights.region = std::move(region);
  return weights;
}

std::shared_ptr<std::byte> allocate_region(int64_t bytes, bool large_pages) {
  const size_t length = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* memory = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ErrorKind::out_of_memory, "[engine.weights] " + std::to_string(bytes) +
                                              " bytes were asked for, the system refused them. Take a smaller model.");
  }
#ifdef MADV_HUGEPAGE
  if (large_pages) madvise(memory, length, MADV_HUGEPAGE);  // advice only: without it everything works, a little slower
#endif
  return {static_cast<std::byte*>(memory), [length](std::byte* region) { munmap(region, length); }};
}

}  // namespace gemcut
