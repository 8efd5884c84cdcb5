#include "kernels/gather.h"

#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Every other one of eight numbers, without the last of them.
DWF_INLINE void every_other(const float* from, float* to) {
#if defined(__SSE2__)
  // The second half from one number earlier on.
  _mm_storeu_ps(to, _mm_shuffle_ps(_mm_loadu_ps(from), _mm_loadu_ps(from + 3), 0xd8));
#else
  for (std::size_t i = 0; i < 4; ++i) to[i] = from[2 * i];
#endif
}

template <std::size_t kStep>
DWF_INLINE void copy(const float* from, std::size_t size, std::size_t step, float* to) {
  std::size_t i = 0;
  if (kStep == 1) {
    for (; i + kLanes <= size; i += kLanes) store(to + i, load(from + i));
    for (; i + 4 <= size; i += 4) std::memcpy(to + i, from + i, 4 * sizeof(float));
  } else if (kStep == 2) {
    for (; i + 4 <= size; i += 4) every_other(from + 2 * i, to + i);
  }
  for (; i < size; ++i) to[i] = from[i * (kStep != 0 ? kStep : step)];
}

// kSize: of all segments, or 0 for any.
template <std::size_t kStep, std::size_t kSize>
void gather_by(const float* from, const std::uint32_t* offsets, std::size_t count, const Segment* segments,
               std::size_t segment_count, std::size_t step, std::size_t width, float* to) {
  for (std::size_t k = 0; k < count; ++k, to += width)
    for (const Segment* segment = segments; segment < segments + segment_count; ++segment) {
      const float* const image = from + offsets[k] + segment->image;
      float* const window = to + segment->window;
      if (kStep == 1 && kSize != 0) {
        std::memcpy(window, image, kSize * sizeof(float));
      } else {
        copy<kStep>(image, kSize != 0 ? kSize : segment->size, step, window);
      }
    }
}

using Gather = void (*)(const float*, const std::uint32_t*, std::size_t, const Segment*, std::size_t, std::size_t,
                        std::size_t, float*);

// By the size of rows of usual images.
template <std::size_t kStep>
Gather pick(std::size_t size) {
  switch (size) {
    case 4: return gather_by<kStep, 4>;
    case 8: return gather_by<kStep, 8>;
    case 16: return gather_by<kStep, 16>;
    default: return gather_by<kStep, 0>;
  }
}

}  // namespace

void gather(const float* from, const std::uint32_t* offsets, std::size_t count, const Segment* segments,
            std::size_t segment_count, std::size_t step, std::size_t width, float* to) {
  std::size_t size = segments->size;
  for (std::size_t s = 1; s < segment_count; ++s)
    if (segments[s].size != size) size = 0;
  const Gather run = step == 1 ? pick<1>(size) : step == 2 ? pick<2>(size) : gather_by<0, 0>;
  run(from, offsets, count, segments, segment_count, step, width, to);
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
