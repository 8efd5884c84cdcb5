#include "inputs.h"

#include <stdexcept>

namespace dwf {

void require(bool holds, const std::string& otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

std::string shape_of(std::size_t ndim, const std::int64_t* shape) {
  std::string text = "[";
  for (std::size_t d = 0; d < ndim; ++d) text += (d > 0 ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

Csr read_csr(std::size_t rows, std::size_t columns, const Indices& begins, const Indices& indices,
             const Floats& weights) {
  require(begins.shape(0) == rows + 1,
          "a matrix of " + std::to_string(rows) + " rows has " + std::to_string(rows + 1) + " row pointers, not " +
              std::to_string(begins.shape(0)));
  require(weights.ndim() == 1 && weights.shape(0) == indices.shape(0), "each weight needs one column index");
  const Csr csr{rows, columns, begins.data(), indices.data(), weights.data()};
  require(csr.begins[0] == 0 && csr.begins[rows] >= 0 && csr.size() == indices.shape(0),
          "row pointers must go from 0 to the number of weights, " + std::to_string(indices.shape(0)));
  // The end is known to be in bounds, so pointers that never fall are too.
  for (std::size_t row = 0; row < rows; ++row)
    require(csr.begins[row] <= csr.begins[row + 1], "row pointers fall after row " + std::to_string(row));
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::int32_t k = csr.begins[row]; k < csr.begins[row + 1]; ++k) {
      const std::int32_t column = csr.indices[k];
      require(column >= 0 && static_cast<std::size_t>(column) < columns,
              "row " + std::to_string(row) + " has column " + std::to_string(column) + " of " + std::to_string(columns));
      require(k == csr.begins[row] || csr.indices[k - 1] < column,
              "columns do not rise in row " + std::to_string(row));
    }
  }
  return csr;
}

const float* read_bias(const nb::object& bias, std::size_t size) {
  if (bias.is_none()) return nullptr;
  const Floats floats = nb::cast<Floats>(bias, false);
  require(floats.size() == size,
          "bias has " + std::to_string(floats.size()) + " elements, expected " + std::to_string(size));
  return floats.data();
}

}  // namespace dwf
