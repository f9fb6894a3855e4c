// The encoder for x86-64 with AVX-512.
#include <immintrin.h>
#include "quantize/encoder.h"

#define GEMCUT_LANES 16

namespace gemcut {
namespace encode_avx512_vnni {
#include "quantize/lanes.h"
#include "quantize/groups.inl"
#include "quantize/pack.inl"
#include "quantize/blocks.inl"
#include "quantize/super_blocks.inl"
#include "quantize/encode.inl"
}  // namespace encode_avx512_vnni

extern const Encoder avx512_vnni_encoder;
const Encoder avx512_vnni_encoder = {"avx512_vnni", encode_avx512_vnni::lanes, &encode_avx512_vnni::encode};

}  // namespace gemcut
