#include "kernels/rows.h"

#include "kernels/activate.h"
#include "kernels/functions.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// f of what `make` makes of whole registers and single floats.
template <class Make>
DWF_INLINE void fill(std::size_t size, Activation activation, float* to, Make make) {
  const Lanes low = broadcast(activation.function == Function::relu ? 0.0f : -__builtin_inff());
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const auto at = [&](const float* from) __attribute__((always_inline)) { return load(from + i); };
    store(to + i, at_least(make(at), low));
  }
  if (i < size) {
    const std::size_t left = size - i;
    const auto at = [&](const float* from) __attribute__((always_inline)) {
      float rest[kLanes] = {};
      std::memcpy(rest, from + i, left * sizeof(float));
      return load(rest);
    };
    float rest[kLanes];
    store(rest, at_least(make(at), low));
    std::memcpy(to + i, rest, left * sizeof(float));
  }
  if (!is_cheap(activation.function)) activate(to, size, activation, to);
}

}  // namespace

void add_rows(const float* a, const float* b, std::size_t size, Activation activation, float* to) {
  fill(size, activation, to, [&](const auto& at) __attribute__((always_inline)) { return at(a) + at(b); });
}

void affine_row(const float* from, std::size_t size, float scale, float shift, Activation activation, float* to) {
  fill(size, activation, to,
       [&](const auto& at) __attribute__((always_inline)) { return at(from) * scale + shift; });
}

void softmax(const float* from, std::size_t count, std::size_t distance, std::size_t run, std::size_t to_distance,
             float* to) {
  for (std::size_t i = 0; i < run; i += kLanes) {
    const std::size_t size = run - i < kLanes ? run - i : kLanes;
    const auto at = [&](const float* place) __attribute__((always_inline)) {
      if (size == kLanes) return load(place + i);
      float rest[kLanes] = {};
      std::memcpy(rest, place + i, size * sizeof(float));
      return load(rest);
    };
    const auto put = [&](float* place, Lanes lanes) __attribute__((always_inline)) {
      if (size == kLanes) return store(place + i, lanes);
      float rest[kLanes];
      store(rest, lanes);
      std::memcpy(place + i, rest, size * sizeof(float));
    };
    Lanes most = broadcast(-__builtin_inff()), sum{};
    for (std::size_t k = 0; k < count; ++k) most = at_least(at(from + k * distance), most);
    for (std::size_t k = 0; k < count; ++k) {
      const Lanes power = exponential(at(from + k * distance) - most);
      put(to + k * to_distance, power);
      sum += power;
    }
    const Lanes factor = 1.0f / sum;
    for (std::size_t k = 0; k < count; ++k) put(to + k * to_distance, at(to + k * to_distance) * factor);
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
