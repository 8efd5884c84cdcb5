// The kernels of every instruction set that is compiled for this kind of machine.

#pragma once

#include "passes.h"
#include "slot.h"

namespace dwf {

#define DWF_DECLARE_KERNEL(isa) \
  namespace isa {               \
  Kernel kernel(Rule, int depth); \
  Kernel root_kernel(Rule, int depth, Storage); \
  Kernel gate_kernel(Rule); \
  Passes passes(int depth); \
  }

DWF_DECLARE_KERNEL(baseline)
#if defined(__x86_64__)
DWF_DECLARE_KERNEL(avx2)
DWF_DECLARE_KERNEL(avx512)
#endif

#undef DWF_DECLARE_KERNEL

}  // namespace dwf
