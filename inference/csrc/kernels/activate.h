// Elementwise functions on floats side by side.

#pragma once

#include <cstddef>

#include "activation.h"
#include "instruction_set.h"

namespace dwf {

DWF_FOR_EACH_SET(
    // to[i] = f(from[i]); `to` may be `from`.
    void activate(const float* from, std::size_t size, Activation activation, float* to);)

// For kernels that end with an activation: those that cost an instruction are applied in registers (kernels/fused.h), the
// others to what was stored, while it is in the first cache.
constexpr bool is_cheap(Function function) { return function == Function::none || function == Function::relu; }

}  // namespace dwf
