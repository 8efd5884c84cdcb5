// The step of small tensors without factors (biases, norms) by SGD, as torch does it to the bit.
//
// A call of torch for each costs more than the arithmetic of a small network's whole step.

#pragma once

#include <cstddef>

namespace dwf {

// Beyond this many elements a call is no longer what takes the time.
constexpr std::size_t kMostPlain = 16 * 1024;

// Tensors of the same elements in the same order in memory, without gaps.
struct Plain {
  std::size_t size;
  float* weight;
  const float* grad;
  float* buffer;  // null without momentum
};

struct PlainOptions {
  float lr, momentum;
  float undamped;  // 1 - dampening
  float decay;
  bool nesterov, maximize;
};

// Whether there is an instruction for what torch rounds once: a product and a sum.
bool plain_is_supported();

void step_plain(const Plain& plain, const PlainOptions& options);

}  // namespace dwf
