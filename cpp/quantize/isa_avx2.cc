// The encoder for x86-64 with AVX2.
#include <immintrin.h>
#include "quantize/encoder.h"

#define GEMCUT_LANES 8

namespace gemcut {
namespace encode_avx2 {
#include "quantize/lanes.h"
#include "quantize/groups.inl"
#include "quantize/pack.inl"
#include "quantize/blocks.inl"
#include "quantize/super_blocks.inl"
#include "quantize/encode.inl"
}  // namespace encode_avx2

extern const Encoder avx2_encoder;
const Encoder avx2_encoder = {"avx2", encode_avx2::lanes, &encode_avx2::encode};

}  // namespace gemcut
