// What of a step does not depend on the base: the gradients of the factors before the base's own step of a block, and
// after it the weight, and zeros where that has died.

#pragma once

#include <cstddef>

#include "slot.h"

namespace dwf {

// A factorized weight or a part of one. All tensors have the same elements in the same order in memory, without gaps.
struct Block {
  std::size_t size = 0;
  void* weight = nullptr;      // `finish` only
  const void* grad = nullptr;  // `gradients` only
  Type weight_type = Type::f32;
  Type grad_type = Type::f32;
  float* factors[kMaxDepth] = {};
  float* gradients[kMaxDepth] = {};  // where `gradients` writes
  float* const* state = nullptr;     // what `finish` zeroes where the weight has died: the base's, of all factors
  std::size_t states = 0;
};

// Works on elements [begin, end) of a block. number: to `gradients` 2 lambda / D, what a factor adds to its gradient; to
// `finish` the bound below which all |f_d| of a dead weight are, 0 for none.
using Pass = void (*)(const Block& block, float number, std::size_t begin, std::size_t end);

struct Passes {
  Pass gradients;
  Pass finish;
};

}  // namespace dwf
