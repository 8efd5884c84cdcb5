// A sparse matrix times one sample.

#pragma once

#include <cstddef>
#include <cstdint>

#include "instruction_set.h"
#include "kernels/sparse_linear.h"

namespace dwf {

DWF_FOR_EACH_SET(
    // Row by row.
    void sparse_vector(const std::uint32_t* begins, std::size_t rows, const Term* terms, const float* bias,
                       const float* from, float* to);)

}  // namespace dwf
