// A matrix packed for tiles of samples.

#pragma once

#include <cstddef>
#include <cstdint>

#include "inputs.h"
#include "kernels/sparse_linear.h"
#include "layout.h"
#include "memory.h"

namespace dwf {

class PackedPanels {
 public:
  // lanes: of the tiles that it is to be fastest for.
  PackedPanels(const Csr& csr, const float* bias, const Layout& from, std::size_t lanes);

  Panels view() const {
    return {pieces_.size(), pieces_.data(), buckets_.data(), outputs_.data(), terms_.data(), bias_.data()};
  }

  // The most rows of a block.
  std::size_t block_rows() const { return block_rows_; }
  std::size_t bytes() const;

 private:
  std::size_t block_rows_;
  AlignedVector<Piece> pieces_;
  AlignedVector<Bucket> buckets_;
  AlignedVector<std::uint32_t> outputs_;
  AlignedVector<Term> terms_;
  AlignedVector<float> bias_;
};

}  // namespace dwf
