// Numbers side by side in a register, by the vector types of GCC and Clang: `a * b + c` on lanes reads as on numbers and
// compiles to the instruction set of the file that includes this. Everything is in that set's own namespace
// (DWF_ISA), because the linker would keep one copy of a shared inline function, whichever set it was compiled for.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
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
constexpr std::size_t kLanes = kRegister / sizeof(float);

typedef float Lanes __attribute__((vector_size(kRegister)));
// A comparison of lanes: all bits set where it holds.
typedef std::int32_t Mask __attribute__((vector_size(kRegister)));

#define DWF_INLINE_MEMBER inline __attribute__((always_inline))
#define DWF_INLINE static DWF_INLINE_MEMBER

DWF_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);  // the address need not be aligned
  return lanes;
}

DWF_INLINE void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// Asks for memory that is read later, which may lie beyond the end; called for every i it asks once a cache line. A step is
// so much work that the processor, looking ahead by itself, does not see enough of what comes: without asking, it
// takes 10 to 40 % longer.
DWF_INLINE void ask_for(const float* from, std::size_t i) {
  constexpr std::size_t kCacheLine = 16;
  if (i % kCacheLine == 0) __builtin_prefetch(from + i);
}

DWF_INLINE Lanes magnitude(Lanes lanes) {
  return reinterpret_cast<Lanes>(reinterpret_cast<Mask>(lanes) & 0x7fffffff);
}

DWF_INLINE Mask sign_bits(Lanes lanes) { return reinterpret_cast<Mask>(lanes) & ~0x7fffffff; }

DWF_INLINE Lanes flip(Lanes lanes, Mask sign_bits) {
  return reinterpret_cast<Lanes>(reinterpret_cast<Mask>(lanes) ^ sign_bits);
}

DWF_INLINE bool any(Mask mask) {
  std::int32_t found = 0;
  for (std::size_t i = 0; i < kLanes; ++i) found |= mask[i];
  return found != 0;
}

// Whether two registers hold the same bits.
DWF_INLINE bool same_bits(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return _mm512_cmpneq_epi32_mask(_mm512_castps_si512(a), _mm512_castps_si512(b)) == 0;
#elif defined(__AVX__)
  const __m256 differing = _mm256_xor_ps(a, b);
  return _mm256_testz_si256(_mm256_castps_si256(differing), _mm256_castps_si256(differing)) != 0;
#else
  return !any(reinterpret_cast<Mask>(a) ^ reinterpret_cast<Mask>(b));
#endif
}

DWF_INLINE Lanes zero_where(Mask mask, Lanes lanes) {
  return mask ? Lanes{} : lanes;
}

DWF_INLINE Lanes square_root(Lanes lanes) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, lanes);  // without a mask GCC 12 warns of its own header
#elif defined(__AVX__)
  return _mm256_sqrt_ps(lanes);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(lanes);
#elif defined(__aarch64__)
  return vsqrtq_f32(lanes);
#else
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = std::sqrt(lanes[i]);
  return lanes;
#endif
}

}  // namespace DWF_ISA
}  // namespace dwf
