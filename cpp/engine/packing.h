// Stored tensors to packed matrices: the same quantised weights in the order the kernels read them.
#pragma once

#include <cstdint>

#include "formats/tensor.h"
#include "kernels/packed.h"

namespace gemcut {

// The packed format that keeps every bit of a stored type.
Format format_for(TensorType type);

// Lays 16 rows into one group. rows[r] points to row r as stored, or is null for a row of zeros.
void pack_group(TensorType type, const std::byte* const rows[group_rows], int64_t columns, std::byte* group);

// The same for a Q8_0 matrix in format s8, whose group has three places.
void pack_split_group(const std::byte* const rows[group_rows], int64_t columns, std::byte* group, std::byte* low,
                      std::byte* norms);

// Row `row` of a packed matrix in float32 (the embedding's rows). Equals dequantize_row of the stored row.
void unpack_row(const PackedMatrix& matrix, int64_t row, float* out);

}  // namespace gemcut
