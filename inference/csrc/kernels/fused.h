// How kernels end: the activation, in registers where it costs an instruction.

#pragma once

#include "kernels/activate.h"
#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {

template <bool kRelu>
DWF_INLINE Lanes finish(Lanes lanes) {
  return kRelu ? at_least(lanes, Lanes{}) : lanes;
}

}  // namespace DWF_ISA
}  // namespace dwf
