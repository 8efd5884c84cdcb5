// The passes around a base's step (passes.h), on Python's tensors.

#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "tensors.h"

namespace dwf {

// Writes the factors' gradients to `out`. Returns false, having written nothing, for tensors that are not dense, not in the
// same order, not on the CPU, or of dtypes that the passes do not know.
bool factor_gradients(const Reader& reader, nb::list factors, nb::handle grad, float decay, nb::list out, int threads,
                      const std::string& instruction_set);

// Zeroes factors and base state where the weight has died, and writes the product to it. Returns false like
// `factor_gradients`.
bool finish(const Reader& reader, nb::list factors, nb::list state, nb::handle weight, float dead, int threads,
            const std::string& instruction_set);

}  // namespace dwf
