#include "plain.h"

namespace dwf {

#if defined(__x86_64__)
#define DWF_FUSED __attribute__((target("avx2,fma")))
bool plain_is_supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#elif defined(__aarch64__)
#define DWF_FUSED
bool plain_is_supported() { return true; }
#else
#define DWF_FUSED
bool plain_is_supported() { return false; }
#endif

// As torch.optim's `_single_tensor_sgd`: `add` with alpha rounds once, `mul` by itself. Denormals are treated as this thread is
// set to treat them.
DWF_FUSED void step_plain(const Plain& plain, const PlainOptions& o) {
  for (std::size_t i = 0; i < plain.size; ++i) {
    float move = o.maximize ? -plain.grad[i] : plain.grad[i];
    if (o.decay != 0) move = __builtin_fmaf(o.decay, plain.weight[i], move);
    if (plain.buffer != nullptr) {
      const float buffer = __builtin_fmaf(o.undamped, move, o.momentum * plain.buffer[i]);
      plain.buffer[i] = buffer;
      move = o.nesterov ? __builtin_fmaf(o.momentum, buffer, move) : buffer;
    }
    plain.weight[i] = __builtin_fmaf(-o.lr, move, plain.weight[i]);
  }
}

}  // namespace dwf
