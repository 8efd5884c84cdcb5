// A matrix packed for one sample.

#pragma once

#include <cstdint>

#include "inputs.h"
#include "kernels/sparse_vector.h"
#include "layout.h"
#include "memory.h"

namespace dwf {

// Rows by number of terms, so that those of a slice have about as many.
class PackedSlices {
 public:
  PackedSlices(const Csr& csr, const float* bias, const Layout& from, const Layout& to, InstructionSet set);

  // Whether to look up in registers, by a count of cycles.
  bool in_steps() const { return steps_.terms != 0; }

  Slices slices() const {
    return {order_.size(),     begins_.data(),  shortest_.data(), terms_.data(), positions_.data(),
            weights_.data(), bias_.data(), outputs_.data()};
  }
  Steps steps() const {
    return {order_.size(), steps_.terms, steps_.begins.data(), steps_.windows.data(), steps_.places.data(),
            steps_.weights.data(), bias_.data(), outputs_.data()};
  }
  std::size_t bytes() const;

 private:
  struct Cut {
    std::size_t terms = 0;
    AlignedVector<std::uint32_t> begins, windows, places;
    AlignedVector<float> weights;
  };

  Cut cut(const Csr& csr, std::size_t window, std::size_t step_terms) const;
  void pack_slices(const Csr& csr, const Layout& from);

  std::size_t lanes_;
  AlignedVector<std::uint32_t> order_;  // rows of the matrix
  AlignedVector<std::uint32_t> begins_, shortest_, outputs_;
  AlignedVector<std::int32_t> terms_, positions_;
  AlignedVector<float> weights_, bias_;
  Cut steps_;
};

}  // namespace dwf
