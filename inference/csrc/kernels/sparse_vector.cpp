#include "kernels/sparse_vector.h"

#include "kernels/fused.h"

namespace dwf {
namespace DWF_ISA {
namespace {

#if defined(__AVX2__)

// Stores the sums of a slice to their rows' places.
DWF_INLINE void scatter(Lanes sums, bool relu, const std::uint32_t* outputs, std::size_t rows, float* to) {
  if (relu) sums = finish<true>(sums);
  alignas(kRegister) float numbers[kLanes];
  store_aligned(numbers, sums);
  if (rows >= kLanes) {
    for (std::size_t i = 0; i < kLanes; ++i) to[outputs[i]] = numbers[i];
  } else {
    for (std::size_t i = 0; i < rows; ++i) to[outputs[i]] = numbers[i];
  }
}

DWF_INLINE Lanes look_up(const float* from, const std::int32_t* positions) {
#if defined(__AVX512F__)
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, _mm512_loadu_si512(positions), from, 4);
#else
  return _mm256_i32gather_ps(from, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(positions)), 4);
#endif
}

// Adds where a row has a term k; elsewhere no input is read.
DWF_INLINE Lanes add_some(Lanes sums, const float* from, const std::int32_t* positions, const float* weights,
                          const std::int32_t* terms, std::size_t k) {
#if defined(__AVX512F__)
  const __m512i counts = _mm512_loadu_si512(terms);
  const __mmask16 has = _mm512_cmpgt_epi32_mask(counts, _mm512_set1_epi32(static_cast<int>(k)));
  const __m512 inputs = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), has, _mm512_loadu_si512(positions), from, 4);
  return _mm512_mask3_fmadd_ps(inputs, load(weights), sums, has);
#else
  const __m256i counts = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(terms));
  const __m256 has = _mm256_castsi256_ps(_mm256_cmpgt_epi32(counts, _mm256_set1_epi32(static_cast<int>(k))));
  const __m256 inputs = _mm256_mask_i32gather_ps(
      _mm256_setzero_ps(), from, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(positions)), has, 4);
  return _mm256_blendv_ps(sums, sums + inputs * load(weights), has);
#endif
}

#endif

}  // namespace

#if defined(__AVX2__)

void gather_vector(const Slices& slices, const float* from, bool relu, float* to) {
  for (std::size_t row = 0, slice = 0; row < slices.rows; row += kLanes, ++slice) {
    const std::size_t begin = slices.begins[slice], terms = slices.begins[slice + 1] - begin;
    const std::size_t shortest = slices.shortest[slice];
    const std::int32_t* positions = slices.positions + begin * kLanes;
    const float* weights = slices.weights + begin * kLanes;
    Lanes sums = load(slices.bias + row), others{};
    std::size_t k = 0;
    for (; k + 2 <= shortest; k += 2) {
      sums += load(weights + k * kLanes) * look_up(from, positions + k * kLanes);
      others += load(weights + (k + 1) * kLanes) * look_up(from, positions + (k + 1) * kLanes);
    }
    for (; k < terms; ++k)
      sums = add_some(sums, from, positions + k * kLanes, weights + k * kLanes, slices.terms + row, k);
    scatter(sums + others, relu, slices.outputs + row, slices.rows - row, to);
  }
}

#else

void gather_vector(const Slices& slices, const float* from, bool relu, float* to) {
  for (std::size_t row = 0; row < slices.rows; ++row) {
    float sums[4] = {slices.bias[row], 0, 0, 0};
    const std::size_t end = slices.begins[row + 1];
    std::size_t k = slices.begins[row];
    for (; k + 4 <= end; k += 4)
      for (std::size_t i = 0; i < 4; ++i) sums[i] += slices.weights[k + i] * from[slices.positions[k + i]];
    for (; k < end; ++k) sums[0] += slices.weights[k] * from[slices.positions[k]];
    const float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    to[slices.outputs[row]] = relu && sum < 0 ? 0 : sum;
  }
}

#endif

#if defined(__AVX2__)

namespace {

#if defined(__AVX512F__)

struct Window {
  __m512 low, high;
};
using Places = __m512i;

DWF_INLINE Window load_window(const float* from) {
  return {_mm512_loadu_ps(from), _mm512_maskz_loadu_ps(0x7fff, from + kLanes)};
}

DWF_INLINE Places load_places(const std::uint32_t* places) { return _mm512_loadu_si512(places); }

// Only the lowest five bits of a place count.
DWF_INLINE Lanes look_up(const Window& window, Places places) {
  return _mm512_permutex2var_ps(window.low, places, window.high);
}

DWF_INLINE Places next_places(Places places) { return _mm512_maskz_srli_epi32(0xffff, places, 8); }

#else

using Window = __m256;
using Places = __m256i;

DWF_INLINE Window load_window(const float* from) {
  return _mm256_maskload_ps(from, _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, -1, 0));
}

DWF_INLINE Places load_places(const std::uint32_t* places) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(places));
}

// Only the lowest three bits of a place count.
DWF_INLINE Lanes look_up(Window window, Places places) { return _mm256_permutevar8x32_ps(window, places); }

DWF_INLINE Places next_places(Places places) { return _mm256_srli_epi32(places, 8); }

#endif

template <std::size_t kTerms>
void permute(const Steps& steps, const float* from, bool relu, float* to) {
  for (std::size_t row = 0, slice = 0; row < steps.rows; row += kLanes, ++slice) {
    Lanes sums[kTerms] = {load(steps.bias + row)};
    for (std::size_t s = steps.begins[slice]; s < steps.begins[slice + 1]; ++s) {
      const Window window = load_window(from + steps.windows[s]);
      Places places = load_places(steps.places + s * kLanes);
      const float* const weights = steps.weights + s * kTerms * kLanes;
      for (std::size_t k = 0; k < kTerms; ++k) {
        sums[k] += load_aligned(weights + k * kLanes) * look_up(window, places);
        places = next_places(places);
      }
    }
    for (std::size_t k = 1; k < kTerms; ++k) sums[0] += sums[k];
    scatter(sums[0], relu, steps.outputs + row, steps.rows - row, to);
  }
}

}  // namespace

void permute_vector(const Steps& steps, const float* from, bool relu, float* to) {
  switch (steps.terms) {
    case 2: return permute<2>(steps, from, relu, to);
    case 4: return permute<4>(steps, from, relu, to);
  }
}

#else

void permute_vector(const Steps&, const float*, bool, float*) {}

#endif

}  // namespace DWF_ISA
}  // namespace dwf
