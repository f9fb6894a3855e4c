#include "engine/adapter.h"

#include <algorithm>
#include <map>

#include "engine/packing.h"
#include "formats/fingerprint.h"
#include "formats/message.h"

namespace gemcut {
namespace {

// A matrix that can have an update.
struct Target {
  const LowRankUpdate* LayerUpdates::*member;
  const char* name;
  int stage;  // matrices of one stage have the same input
  int64_t rows, columns;
};

std::vector<Target> targets_of(const Config& config) {
  using L = LayerUpdates;
  const int64_t width = config.hidden_size, ffn = config.intermediate_size;
  const int64_t queries = config.num_attention_heads * config.head_dim, keys = config.num_key_value_heads * config.head_dim;
  return {{&L::q, "self_attn.q_proj", 0, queries, width}, {&L::k, "self_attn.k_proj", 0, keys, width},
          {&L::v, "self_attn.v_proj", 0, keys, width},    {&L::o, "self_attn.o_proj", 1, width, queries},
          {&L::gate, "mlp.gate_proj", 2, ffn, width},     {&L::up, "mlp.up_proj", 2, ffn, width},
          {&L::down, "mlp.down_proj", 3, width, ffn}};
}

std::string name_of(size_t layer, const Target& target) {
  return message("model.layers.", layer, ".", target.name, ".weight");
}

void check_shape(const AdapterMatrix& matrix, const Target& target) {
  if (matrix.rank >= 1 && matrix.rows == target.rows && matrix.columns == target.columns) return;
  throw Error(ErrorKind::checkpoint,
              message("[engine.adapter] \"", matrix.name, "\" is (", matrix.rows, ", ", matrix.columns, ") of rank ", matrix.rank,
                      ", expected (", target.rows, ", ", target.columns, ") of rank 1 or more. Take this model's adapter."));
}

PackedMatrix packed_shape(int64_t rows, int64_t columns) {
  return {Format::f32, rows, columns, nullptr, group_geometry(Format::f32, columns)};
}

// Lays the factor (rows, columns), each number times `scale`, into `memory`.
PackedMatrix packed(const float* values, int64_t rows, int64_t columns, float scale, std::byte* memory) {
  PackedMatrix matrix = packed_shape(rows, columns);
  matrix.data = memory;
  std::vector<float> scaled(static_cast<size_t>(group_rows * columns));
  for (int64_t group = 0; group < matrix.num_groups(); ++group) {
    const int64_t first = group * group_rows, count = std::min(group_rows, rows - first);
    std::transform(values + first * columns, values + (first + count) * columns, scaled.begin(),
                   [scale](float value) { return value * scale; });
    const std::byte* sources[group_rows] = {};
    for (int64_t row = 0; row < count; ++row) sources[row] = reinterpret_cast<const std::byte*>(scaled.data() + row * columns);
    pack_group(TensorType::f32, sources, columns, memory + group * matrix.geometry.bytes);
  }
  return matrix;
}

int64_t packed_bytes(const AdapterMatrix& matrix) {
  return packed_shape(matrix.rank, matrix.columns).num_bytes() + packed_shape(matrix.rows, matrix.rank).num_bytes();
}

LowRankUpdate update_of(const AdapterMatrix& matrix) {
  LowRankUpdate update{matrix.name, {}, {}, 0, AlignedArray<float>(packed_bytes(matrix) / static_cast<int64_t>(sizeof(float)))};
  auto* const memory = reinterpret_cast<std::byte*>(update.memory.data());
  update.a = packed(matrix.a, matrix.rank, matrix.columns, 1.0f, memory);
  update.b = packed(matrix.b, matrix.rows, matrix.rank, matrix.scale, memory + update.a.num_bytes());
  return update;
}

}  // namespace

int64_t Adapter::bytes_of(const std::vector<AdapterMatrix>& matrices) {
  int64_t bytes = 0;
  for (const AdapterMatrix& matrix : matrices) bytes += packed_bytes(matrix);
  return bytes;
}

Adapter::Adapter(const Config& config, const std::vector<AdapterMatrix>& matrices) {
  std::map<std::string, const AdapterMatrix*> by_name;
  for (const AdapterMatrix& matrix : matrices)
    if (!by_name.emplace(matrix.name, &matrix).second)
      throw Error(ErrorKind::usage, message("[engine.adapter] \"", matrix.name, "\" is given twice, expected once."));
  layers_.resize(static_cast<size_t>(config.num_hidden_layers));
  updates_.reserve(matrices.size());  // pointers to them are kept
  const std::vector<Target> targets = targets_of(config);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    int64_t stage_width[4] = {};
    for (const Target& target : targets) {
      const auto found = by_name.find(name_of(layer, target));
      if (found == by_name.end()) continue;
      check_shape(*found->second, target);
      LowRankUpdate& update = updates_.emplace_back(update_of(*found->second));
      by_name.erase(found);
      layers_[layer].*target.member = &update;
      update.place = stage_width[target.stage];
      stage_width[target.stage] += update.a.num_groups() * group_rows;
      width_ = std::max(width_, stage_width[target.stage]);
    }
  }
  if (!by_name.empty())
    throw Error(ErrorKind::checkpoint, message("[engine.adapter] \"", by_name.begin()->first, "\" is no matrix of this model's ",
                                               layers_.size(), " layers. Take this model's adapter."));
}

int64_t Adapter::num_bytes() const {
  int64_t bytes = 0;
  for (const LowRankUpdate& update : updates_) bytes += update.a.num_bytes() + update.b.num_bytes();
  return bytes;
}

int64_t Adapter::multiply_adds() const {
  int64_t count = 0;
  for (const LowRankUpdate& update : updates_) count += update.a.rows * (update.a.columns + update.b.rows);
  return count;
}

std::string Adapter::hash(const std::string& model_hash) const {
  if (empty()) return model_hash;
  Hasher hasher;
  hasher.add(model_hash);
  for (const LowRankUpdate& update : updates_) {
    hasher.add(update.name);
    hasher.add({reinterpret_cast<const char*>(update.memory.data()),
                static_cast<size_t>(update.a.num_bytes() + update.b.num_bytes())});
  }
  return hasher.finish();
}

}  // namespace gemcut
