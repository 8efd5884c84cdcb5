#include "kernels/activate.h"

namespace dwf {
namespace DWF_ISA {

void activate(const float* from, std::size_t size, Activation activation, float* to) {
  for (std::size_t i = 0; i < size; ++i)
    to[i] = activation.function == Function::relu && from[i] <= 0 ? 0 : from[i];
}

}  // namespace DWF_ISA
}  // namespace dwf
