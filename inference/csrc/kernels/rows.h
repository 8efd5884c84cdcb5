// Sums, products and copies of rows of floats.

#pragma once

#include <cstddef>

#include "activation.h"
#include "instruction_set.h"

namespace dwf {

DWF_FOR_EACH_SET(
    // to[i] = f(a[i] + b[i]); `to` may be either of them.
    void add_rows(const float* a, const float* b, std::size_t size, Activation activation, float* to);
    // to[i] = f(scale * from[i] + shift); `to` may be `from`.
    void affine_row(const float* from, std::size_t size, float scale, float shift, Activation activation, float* to);
    // For i < run: exp(from[k * distance + i]), over their sum for all k < count; `to` may be `from`.
    void softmax(const float* from, std::size_t count, std::size_t distance, std::size_t run, std::size_t to_distance,
                 float* to);)

}  // namespace dwf
