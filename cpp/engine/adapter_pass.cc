#include "engine/adapter_pass.h"

#include <algorithm>

#include "engine/sequence.h"

namespace gemcut {
namespace {

constexpr int64_t item_rows = 64;  // rows of one item of A x

MatmulArgs matmul_args(const PackedMatrix& factor, int64_t group, int64_t first_row, int64_t num_rows) {
  MatmulArgs args;
  args.group = factor.group(group);
  args.geometry = &factor.geometry;
  args.columns = factor.columns;
  args.end_block = (factor.columns + block_columns - 1) / block_columns;
  args.first_row = first_row;
  args.num_rows = num_rows;
  return args;
}

}  // namespace

AdapterPass::AdapterPass(const Adapter& adapter, const Kernels& kernels, ThreadPool& pool)
    : kernels_(kernels), pool_(pool), width_(adapter.width()), reduced_(max_pass_rows * adapter.width()) {
  for (int thread = 0; thread < pool.num_threads(); ++thread)
    sums_.emplace_back(adapter.empty() ? 0 : max_pass_rows * group_rows);
}

void AdapterPass::reduce(std::initializer_list<const LowRankUpdate*> updates, const InputRows& inputs, int64_t num_rows,
                         int thread) {
  const int64_t parts = (num_rows + item_rows - 1) / item_rows;
  int64_t items = 0;
  for (const LowRankUpdate* update : updates)
    if (update) items += update->a.num_groups() * parts;
  if (!items) return;  // and no thread waits for another
  pool_.share(thread, items, [&](int64_t item) {
    const LowRankUpdate* update = nullptr;
    for (const LowRankUpdate* const* each = updates.begin(); !update; ++each) {
      if (!*each) continue;
      const int64_t own = (*each)->a.num_groups() * parts;
      if (item < own) update = *each;
      else item -= own;
    }
    const int64_t group = item / parts, first = item % parts * item_rows;
    MatmulArgs args = matmul_args(update->a, group, first, std::min(item_rows, num_rows - first));
    args.inputs = inputs.view(Format::f32);
    args.out = reduced_.data() + first * width_ + update->place + group * group_rows;
    args.out_stride = width_;
    kernels_.matmul[static_cast<int>(Format::f32)](args);
  });
}

// A sum of its own that is added as a whole: the order of the additions is the same for any number of rows.
void AdapterPass::add(const LowRankUpdate& update, int64_t group, int64_t first_row, int64_t num_rows, float* out,
                      int64_t stride, int thread) {
  float* const sums = sums_[static_cast<size_t>(thread)].data();
  MatmulArgs args = matmul_args(update.b, group, first_row, num_rows);
  args.inputs.f32 = reduced_.data() + update.place;
  args.inputs.stride = width_;
  args.out = sums;
  args.out_stride = group_rows;
  kernels_.matmul[static_cast<int>(Format::f32)](args);
  for (int64_t row = 0; row < num_rows; ++row) kernels_.add(out + row * stride, sums + row * group_rows, group_rows);
}

}  // namespace gemcut
