// Arrays that Python gives, checked.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace dwf {

namespace nb = nanobind;

// Contiguous arrays of NumPy or CPU tensors of torch. nanobind refuses others with a TypeError.
using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::c_contig, nb::device::cpu, nb::ndim<1>>;

// Throws std::invalid_argument, which is Python's ValueError, unless `holds`.
void require(bool holds, const std::string& otherwise);

std::string shape_of(std::size_t ndim, const std::int64_t* shape);

// A compressed sparse row matrix. Columns rise in each row and no weight is zero.
struct Csr {
  std::size_t rows, columns;
  const std::int32_t* begins;  // rows + 1
  const std::int32_t* indices;
  const float* weights;

  std::size_t size() const { return static_cast<std::size_t>(begins[rows]); }
};

// Views the arrays as a matrix. Throws std::invalid_argument if they are none of that size.
Csr read_csr(std::size_t rows, std::size_t columns, const Indices& begins, const Indices& indices, const Floats& weights);

// `size` numbers, or null for None. Throws std::invalid_argument for another size.
const float* read_bias(const nb::object& bias, std::size_t size);

}  // namespace dwf
