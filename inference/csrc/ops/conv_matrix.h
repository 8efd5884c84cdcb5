// A convolution of one small image, as a matrix of all its outputs by all its inputs.
//
// An image of a few positions fills a part of a register, and much of each window is its border. The matrix has one row an
// output, so registers are full of outputs, and no weight of it is multiplied with the border.

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "inputs.h"
#include "instruction_set.h"
#include "layout.h"
#include "ops/filters.h"
#include "ops/slices.h"
#include "ops/window.h"

namespace dwf {

class ConvMatrix {
 public:
  // csr: rows are output channels, columns the weights of each. bias: of each element of the output.
  ConvMatrix(InstructionSet set, const Csr& csr, const Taps& taps, const Window& window, const Layout& from,
             const Layout& to, const std::vector<float>& bias);

  // Whether the matrix is less work than the windows.
  static bool pays(const Csr& csr, const Taps& taps, const Window& window, const Layout& from, const Layout& to);

  void run(const float* from, float* scratch, bool relu, float* to) const;
  std::size_t scratch() const { return from_.dense() ? 0 : from_.features(); }
  std::size_t bytes() const { return slices_->bytes(); }

 private:
  const InstructionSet set_;
  const Layout from_;
  std::unique_ptr<const PackedSlices> slices_;
};

}  // namespace dwf
