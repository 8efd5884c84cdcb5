#include "kernels/gather.h"

#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

template <std::size_t kStep>
void gather_by(const float* from, const std::uint32_t* offsets, std::size_t count, const Segment* segments,
               std::size_t segment_count, std::size_t step, std::size_t width, float* to) {
  for (std::size_t k = 0; k < count; ++k, to += width)
    for (const Segment* segment = segments; segment < segments + segment_count; ++segment) {
      const float* const image = from + offsets[k] + segment->image;
      float* const window = to + segment->window;
      std::size_t i = 0;
      if (kStep == 1) {
        for (; i + kLanes <= segment->size; i += kLanes) store(window + i, load(image + i));
        for (; i + 4 <= segment->size; i += 4) std::memcpy(window + i, image + i, 4 * sizeof(float));
      }
      for (; i < segment->size; ++i) window[i] = image[i * (kStep != 0 ? kStep : step)];
    }
}

}  // namespace

void gather(const float* from, const std::uint32_t* offsets, std::size_t count, const Segment* segments,
            std::size_t segment_count, std::size_t step, std::size_t width, float* to) {
  switch (step) {
    case 1: return gather_by<1>(from, offsets, count, segments, segment_count, step, width, to);
    case 2: return gather_by<2>(from, offsets, count, segments, segment_count, step, width, to);
    default: return gather_by<0>(from, offsets, count, segments, segment_count, step, width, to);
  }
}

void scatter(const float* from, std::size_t count, std::size_t width, const Segment* segments, std::size_t segment_count,
             const float* added, const Segment* added_segments, std::size_t added_channel, float low, float high,
             std::size_t channel, float* to) {
  const Lanes lows = broadcast(low), highs = broadcast(high);
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t s = 0; s < segment_count; ++s) {
      const Segment& segment = segments[s];
      const float* const window = from + k * width + segment.window;
      const float* const more = added != nullptr ? added + k * added_channel + added_segments[s].image : nullptr;
      float* const image = to + k * channel + segment.image;
      std::size_t i = 0;
      for (; i + kLanes <= segment.size; i += kLanes) {
        Lanes sum = load(window + i);
        if (more != nullptr) sum += load(more + i);
        store(image + i, at_most(at_least(sum, lows), highs));
      }
      for (; i < segment.size; ++i) {
        const float sum = more != nullptr ? window[i] + more[i] : window[i];
        const float raised = sum < low ? low : sum;
        image[i] = raised > high ? high : raised;
      }
    }
}

}  // namespace DWF_ISA
}  // namespace dwf
