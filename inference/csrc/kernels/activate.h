// Elementwise functions on floats side by side.

#pragma once

#include <cstddef>

#include "activation.h"
#include "instruction_set.h"

namespace dwf {

DWF_FOR_EACH_SET(
    // to[i] = f(from[i]); `to` may be `from`.
    void activate(const float* from, std::size_t size, Activation activation, float* to);)

}  // namespace dwf
