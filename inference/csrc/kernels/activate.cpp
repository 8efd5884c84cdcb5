#include "kernels/activate.h"

#include "kernels/functions.h"

namespace dwf {
namespace DWF_ISA {
namespace {

template <class F>
DWF_INLINE void apply(const float* from, std::size_t size, float* to, F function) {
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(to + i, function(load(from + i)));
  if (i == size) return;
  float rest[kLanes] = {};
  std::memcpy(rest, from + i, (size - i) * sizeof(float));
  store(rest, function(load(rest)));
  std::memcpy(to + i, rest, (size - i) * sizeof(float));
}

}  // namespace

void activate(const float* from, std::size_t size, Activation activation, float* to) {
  switch (activation.function) {
    case Function::none:
      if (to != from) std::memcpy(to, from, size * sizeof(float));
      return;
    case Function::relu: return apply(from, size, to, [](Lanes x) { return at_least(x, Lanes{}); });
    case Function::relu6:
      return apply(from, size, to, [](Lanes x) { return at_most(at_least(x, Lanes{}), broadcast(6.0f)); });
    case Function::leaky_relu:
      return apply(from, size, to, [=](Lanes x) { return select(x < 0.0f, x * activation.slope, x); });
    case Function::gelu: return apply(from, size, to, [](Lanes x) { return gelu(x); });
    case Function::gelu_tanh: return apply(from, size, to, [](Lanes x) { return gelu_by_tangent(x); });
    case Function::silu: return apply(from, size, to, [](Lanes x) { return silu(x); });
    case Function::sigmoid: return apply(from, size, to, [](Lanes x) { return sigmoid(x); });
    case Function::tanh: return apply(from, size, to, [](Lanes x) { return hyperbolic_tangent(x); });
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
