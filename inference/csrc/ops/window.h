// Which inputs a convolution's outputs are sums of.

#pragma once

#include <cstddef>

namespace dwf {

struct Window {
  std::size_t rows, columns;
  std::size_t stride_rows, stride_columns;
  std::size_t padding_rows, padding_columns;
  std::size_t dilation_rows, dilation_columns;
};

}  // namespace dwf
