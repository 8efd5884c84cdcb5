// Half-precision numbers to float and back, rounding to nearest even, as integer arithmetic on one number after the
// other: the compiler vectorizes that on every instruction set, which is why all of it is in DWF_ISA's namespace. Not
// inlined, as there are as many kernels as rules and depths.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dwf {
namespace DWF_ISA {

static inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Bf16 {
  static constexpr std::uint16_t kInfinity = 0x7f80;

  static inline std::uint32_t widen(std::uint16_t half) { return std::uint32_t{half} << 16; }

  static inline std::uint16_t narrow(std::uint32_t bits) {
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return static_cast<std::uint16_t>(nan ? 0x7fc0 : rounded);
  }
};

struct F16 {
  static constexpr std::uint16_t kInfinity = 0x7c00;

  static inline std::uint32_t widen(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t(half & 0x8000) << 16;
    const std::uint32_t rest = std::uint32_t(half & 0x7fff);
    // The exponent's bias is 15 here and 127 there; infinity and NaN have the largest exponent in both.
    const std::uint32_t normal = (rest << 13) + (rest >= kInfinity ? 0x70000000 : 0x38000000);
    // A denormal is its digits in units of 2^-24.
    const std::uint32_t denormal = bits_of(static_cast<float>(static_cast<std::int32_t>(rest)) * 0x1p-24f);
    return sign | (rest < 0x400 ? denormal : normal);
  }

  static inline std::uint16_t narrow(std::uint32_t bits) {
    const std::uint32_t sign = (bits >> 16) & 0x8000;
    const std::uint32_t rest = bits & 0x7fffffff;
    const std::uint32_t normal = (rest - 0x38000000 + 0xfff + ((rest >> 13) & 1)) >> 13;
    // Below 2^-14 the digits count units of 2^-24: adding 1/2 shifts them, rounded, to the end of the float.
    const std::uint32_t denormal = bits_of(float_of(rest) + 0.5f) - 0x3f000000;
    std::uint32_t half = rest < 0x38800000 ? denormal : normal;
    half = rest >= 0x477ff000 ? kInfinity : half;  // 65520 and more round to infinity
    half = rest > 0x7f800000 ? 0x7e00 : half;
    return static_cast<std::uint16_t>(sign | half);
  }
};

template <class Half>
[[gnu::noinline]] void widen(const std::uint16_t* __restrict from, std::size_t size, float* __restrict to) {
#pragma omp simd
  for (std::size_t i = 0; i < size; ++i) to[i] = float_of(Half::widen(from[i]));
}

template <class Half>
[[gnu::noinline]] void narrow(const float* __restrict from, std::size_t size, std::uint16_t* __restrict to) {
#pragma omp simd
  for (std::size_t i = 0; i < size; ++i) to[i] = Half::narrow(bits_of(from[i]));
}

// Whether two lists hold the same numbers: zero equals minus zero, and NaN equals NaN.
template <class Half>
[[gnu::noinline]] bool same_halves(const std::uint16_t* left, const std::uint16_t* right, std::size_t size) {
  unsigned differing = 0;
#pragma omp simd reduction(| : differing)
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned a = left[i] & 0x7fff, b = right[i] & 0x7fff;
    const unsigned equal = unsigned(left[i] == right[i]) | unsigned((a | b) == 0) |
                           (unsigned(a > Half::kInfinity) & unsigned(b > Half::kInfinity));
    differing |= equal ^ 1;
  }
  return differing == 0;
}

}  // namespace DWF_ISA
}  // namespace dwf
