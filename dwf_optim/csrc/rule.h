// How the base moves a number, given its gradient. The arithmetic is that of torch.optim's `_single_tensor_sgd` and
// `_single_tensor_adam`.

#pragma once

#include "lanes.h"
#include "slot.h"

namespace dwf {
namespace DWF_ISA {

// Returns what a step takes away from a number with the gradient g, and updates the base's state of it. rate, correction:
// Adam's, by its step counter.
template <Rule R>
DWF_INLINE Lanes move_by(Lanes g, Lanes (&moments)[kMaxMoments], const Options& o, float rate, float correction) {
  if constexpr (R == Rule::sgd) {
    return o.lr * g;
  } else if constexpr (R == Rule::momentum) {
    const Lanes buffer = o.momentum * moments[0] + o.undamped * g;
    moments[0] = buffer;
    return o.lr * (o.nesterov ? g + o.momentum * buffer : buffer);
  } else {
    moments[0] += o.fresh1 * (g - moments[0]);
    moments[1] = o.beta2 * moments[1] + o.fresh2 * (g * g);
    Lanes scale = moments[1];
    if constexpr (R == Rule::amsgrad) {
      const Lanes largest = moments[2];
      // As in torch's maximum, NaN wins.
      scale = ((largest > scale) | (largest != largest)) ? largest : scale;
      moments[2] = scale;
    }
    return rate * moments[0] / (square_root(scale) * correction + o.eps);
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
