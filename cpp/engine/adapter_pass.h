// An adapter's part of a pass: the inputs of a stage times A, and each group of outputs plus B times that.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "engine/adapter.h"
#include "engine/input_rows.h"
#include "engine/thread_pool.h"

namespace gemcut {

class AdapterPass {
 public:
  AdapterPass(const Adapter& adapter, const Kernels& kernels, ThreadPool& pool);

  // Inside a job, called by every thread alike before the stage that multiplies the matrices themselves: A x of every
  // update that is not null, for the rows [0, num_rows) of `inputs`, which must have them as float32.
  void reduce(std::initializer_list<const LowRankUpdate*> updates, const InputRows& inputs, int64_t num_rows, int thread);
  // Adds B (A x) of one group of 16 outputs for rows [first_row, first_row + num_rows) to out (num_rows, stride).
  void add(const LowRankUpdate& update, int64_t group, int64_t first_row, int64_t num_rows, float* out, int64_t stride,
           int thread);

 private:
  const Kernels& kernels_;
  ThreadPool& pool_;
  const int64_t width_;
  AlignedArray<float> reduced_;            // A x of one stage's matrices: (rows, width)
  std::vector<AlignedArray<float>> sums_;  // of each thread: B (A x) of one group
};

}  // namespace gemcut
