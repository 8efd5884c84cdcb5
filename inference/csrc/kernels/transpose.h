// Between rows of samples, as callers keep them, and features by lanes.

#pragma once

#include <cstddef>

#include "instruction_set.h"

namespace dwf {

// Where features lie that are counted without a border: an image of rows, and what is skipped, in features.
struct Gaps {
  std::size_t width, height;
  std::size_t after_row, after_image;  // the latter on top
};

DWF_FOR_EACH_SET(
    // to[place(f) * lanes + l] = from[l * stride + f] for f < features and l < samples; zero for the other lanes.
    void pack_lanes(const float* from, std::size_t stride, std::size_t samples, std::size_t features, std::size_t lanes,
                    const Gaps& gaps, float* to);
    // to[l * stride + f] = from[place(f) * lanes + l] for f < features and l < samples.
    void unpack_lanes(const float* from, std::size_t lanes, std::size_t samples, std::size_t features,
                      std::size_t stride, const Gaps& gaps, float* to);)

}  // namespace dwf
