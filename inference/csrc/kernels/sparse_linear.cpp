#include "kernels/sparse_linear.h"

#include "kernels/activate.h"

namespace dwf {
namespace DWF_ISA {
namespace {

template <std::size_t kLanes>
void run(const Rows& rows, const float* from, Activation activation, float* to) {
  for (std::size_t r = 0; r < rows.size; ++r) {
    float sums[kLanes];
    for (std::size_t l = 0; l < kLanes; ++l) sums[l] = rows.bias[r];
    for (std::uint32_t k = rows.begins[r]; k < rows.begins[r + 1]; ++k) {
      const float* const lanes = from + rows.terms[k].position * kLanes;
      for (std::size_t l = 0; l < kLanes; ++l) sums[l] += rows.terms[k].weight * lanes[l];
    }
    activate(sums, kLanes, activation, to + rows.outputs[r] * kLanes);
  }
}

}  // namespace

void sparse_linear(const Rows& rows, const float* from, std::size_t lanes, Activation activation, float* to) {
  switch (lanes) {
    case 1: return run<1>(rows, from, activation, to);
    case 16: return run<16>(rows, from, activation, to);
    case 32: return run<32>(rows, from, activation, to);
    case 64: return run<64>(rows, from, activation, to);
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
