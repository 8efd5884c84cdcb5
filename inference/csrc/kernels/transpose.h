// Between rows of samples, as callers keep them, and features by lanes.

#pragma once

#include <cstddef>

#include "instruction_set.h"

namespace dwf {

DWF_FOR_EACH_SET(
    // to[f * lanes + l] = from[l * stride + f] for f < features and l < samples; zero for the other lanes.
    void pack_lanes(const float* from, std::size_t stride, std::size_t samples, std::size_t features, std::size_t lanes,
                    float* to);
    // to[l * stride + f] = from[f * lanes + l] for f < features and l < samples.
    void unpack_lanes(const float* from, std::size_t lanes, std::size_t samples, std::size_t features,
                      std::size_t stride, float* to);)

}  // namespace dwf
