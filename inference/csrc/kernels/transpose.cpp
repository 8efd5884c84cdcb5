#include "kernels/transpose.h"

namespace dwf {
namespace DWF_ISA {

void pack_lanes(const float* from, std::size_t stride, std::size_t samples, std::size_t features, std::size_t lanes,
                float* to) {
  for (std::size_t f = 0; f < features; ++f)
    for (std::size_t l = 0; l < lanes; ++l) to[f * lanes + l] = l < samples ? from[l * stride + f] : 0.0f;
}

void unpack_lanes(const float* from, std::size_t lanes, std::size_t samples, std::size_t features, std::size_t stride,
                  float* to) {
  for (std::size_t l = 0; l < samples; ++l)
    for (std::size_t f = 0; f < features; ++f) to[l * stride + f] = from[f * lanes + l];
}

}  // namespace DWF_ISA
}  // namespace dwf
