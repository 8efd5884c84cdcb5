// Numbers side by side in a register, by the vector types of GCC and Clang: `a * b + c` on lanes reads as on numbers and
// compiles to the instruction set of the file that includes this, fused where the set can. Everything is in that set's
// own namespace (DWF_ISA), because the linker would keep one copy of a shared inline function, whichever set it was compiled
// for; for the same reason kernels call no inline function from outside it, not even std::min.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace dwf {
namespace DWF_ISA {

#if defined(__AVX512F__)
constexpr int kRegister = 64;
#elif defined(__AVX__)
constexpr int kRegister = 32;
#else
constexpr int kRegister = 16;
#endif
// Floats in a register. A tile of more than one sample has a multiple of them.
constexpr std::size_t kLanes = kRegister / sizeof(float);

typedef float Lanes __attribute__((vector_size(kRegister)));
// Integers by lanes; of a comparison, all bits set where it holds.
typedef std::int32_t Ints __attribute__((vector_size(kRegister)));

#define DWF_INLINE static inline __attribute__((always_inline))

// From an address of any alignment.
DWF_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

DWF_INLINE void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// From an address aligned to a register.
DWF_INLINE Lanes load_aligned(const float* from) { return *reinterpret_cast<const Lanes*>(from); }

DWF_INLINE void store_aligned(float* to, Lanes lanes) { *reinterpret_cast<Lanes*>(to) = lanes; }

DWF_INLINE Lanes broadcast(float number) { return number - Lanes{}; }

DWF_INLINE Lanes select(Ints where, Lanes then, Lanes otherwise) { return where ? then : otherwise; }

// NaN in x stays, as in torch; `bound` is a number.
DWF_INLINE Lanes at_least(Lanes x, Lanes bound) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, bound, x);  // without a mask GCC 12 warns of its own header
#elif defined(__AVX__)
  return _mm256_max_ps(bound, x);
#elif defined(__SSE2__)
  return _mm_max_ps(bound, x);
#else
  return x < bound ? bound : x;
#endif
}

DWF_INLINE Lanes at_most(Lanes x, Lanes bound) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, bound, x);
#elif defined(__AVX__)
  return _mm256_min_ps(bound, x);
#elif defined(__SSE2__)
  return _mm_min_ps(bound, x);
#else
  return x > bound ? bound : x;
#endif
}

DWF_INLINE Ints bits_of(Lanes lanes) { return reinterpret_cast<Ints>(lanes); }

DWF_INLINE Lanes floats_of(Ints bits) { return reinterpret_cast<Lanes>(bits); }

DWF_INLINE Lanes magnitude(Lanes lanes) { return floats_of(bits_of(lanes) & 0x7fffffff); }

}  // namespace DWF_ISA
}  // namespace dwf
