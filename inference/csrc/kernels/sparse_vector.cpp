#include "kernels/sparse_vector.h"

namespace dwf {
namespace DWF_ISA {

void sparse_vector(const std::uint32_t* begins, std::size_t rows, const Term* terms, const float* bias,
                   const float* from, float* to) {
  for (std::size_t r = 0; r < rows; ++r) {
    float sum = bias[r];
    for (std::uint32_t k = begins[r]; k < begins[r + 1]; ++k) sum += terms[k].weight * from[terms[k].position];
    to[r] = sum;
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
