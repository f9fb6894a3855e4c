// The encoder for plain vectors of four, for any processor.

#include "quantize/encoder.h"

#define GEMCUT_LANES 4

namespace gemcut {
namespace encode_portable {
#include "quantize/lanes.h"
#include "quantize/groups.inl"
#include "quantize/pack.inl"
#include "quantize/blocks.inl"
#include "quantize/super_blocks.inl"
#include "quantize/encode.inl"
}  // namespace encode_portable

extern const Encoder portable_encoder;
const Encoder portable_encoder = {"portable", encode_portable::lanes, &encode_portable::encode};

}  // namespace gemcut
