// Windows of a lone image, side by side, so that a convolution of it is a sum of whole registers.

#pragma once

#include <cstddef>
#include <cstdint>

#include "instruction_set.h"

namespace dwf {

// Neighbouring outputs in one row of the image. In floats.
struct Segment {
  std::size_t image, window;  // where they lie, there and among the windows
  std::size_t size;
};

DWF_FOR_EACH_SET(
    // to[k * width + window + i] = from[offsets[k] + image + i * step] for i < size, for each segment.
    void gather(const float* from, const std::uint32_t* offsets, std::size_t count, const Segment* segments,
                std::size_t segment_count, std::size_t step, std::size_t width, float* to);
    // to[k * channel + image + i] = min(max(from[k * width + window + i] + added[k * added_channel + added_image + i],
    // low), high), for each segment of `segments`; those of `added`, which may be null, are `added_segments`.
    void scatter(const float* from, std::size_t count, std::size_t width, const Segment* segments,
                 std::size_t segment_count, const float* added, const Segment* added_segments,
                 std::size_t added_channel, float low, float high, std::size_t channel, float* to);)

}  // namespace dwf
