#include "ops/conv_matrix.h"

#include <cstdint>

#include "kernels/conv.h"

namespace dwf {
namespace {

// Weights of the matrix that are as much work as a register of windows; by measurements of images of 1 to 16 positions.
constexpr double kWeightsOfRun = 2.5;

// Calls found(weight, feature of its input) for the weights of an output that meet the image, not its border.
template <class Found>
void for_weights(const Csr& csr, const Taps& taps, const Window& window, const Layout& from, std::size_t channel,
                 std::size_t row, std::size_t column, Found found) {
  for (std::int32_t k = csr.begins[channel]; k < csr.begins[channel + 1]; ++k) {
    const std::size_t tap = taps.tap(channel, static_cast<std::size_t>(csr.indices[k]));
    const std::size_t place = tap % taps.window;
    // Counted from the corner of the padding.
    const std::size_t y = row * window.stride_rows + place / window.columns * window.dilation_rows;
    const std::size_t x = column * window.stride_columns + place % window.columns * window.dilation_columns;
    if (y < window.padding_rows || y - window.padding_rows >= from.height) continue;
    if (x < window.padding_columns || x - window.padding_columns >= from.width) continue;
    const std::size_t image_row = tap / taps.window * from.height + y - window.padding_rows;
    found(csr.weights[k], image_row * from.width + x - window.padding_columns);
  }
}

}  // namespace

ConvMatrix::ConvMatrix(InstructionSet set, const Csr& csr, const Taps& taps, const Window& window, const Layout& from,
                       const Layout& to, const std::vector<float>& bias)
    : set_(set), from_(from) {
  std::vector<std::int32_t> begins{0}, indices;
  std::vector<float> weights;
  for (std::size_t c = 0; c < to.channels; ++c)
    for (std::size_t y = 0; y < to.height; ++y)
      for (std::size_t x = 0; x < to.width; ++x) {
        for_weights(csr, taps, window, from, c, y, x, [&](float weight, std::size_t feature) {
          indices.push_back(static_cast<std::int32_t>(feature));
          weights.push_back(weight);
        });
        begins.push_back(static_cast<std::int32_t>(indices.size()));
      }
  const Layout dense{from.features(), 1, 1, 0, 0};
  const Csr matrix{to.features(), from.features(), begins.data(), indices.data(), weights.data()};
  slices_ = std::make_unique<const PackedSlices>(matrix, bias.data(), dense, to, set);
}

bool ConvMatrix::pays(const Csr& csr, const Taps& taps, const Window& window, const Layout& from, const Layout& to) {
  if (to.height * to.width > kRun) return false;
  double size = 0;
  for (std::size_t c = 0; c < to.channels; ++c)
    for (std::size_t y = 0; y < to.height; ++y)
      for (std::size_t x = 0; x < to.width; ++x)
        for_weights(csr, taps, window, from, c, y, x, [&](float, std::size_t) { ++size; });
  return size <= kWeightsOfRun * static_cast<double>(csr.size());
}

void ConvMatrix::run(const float* from, float* scratch, bool relu, float* to) const {
  if (!from_.dense()) {
    // Without the border, more inputs are looked up at once.
    float* next = scratch;
    for (std::size_t c = 0; c < from_.channels; ++c)
      for (std::size_t y = 0; y < from_.height; ++y) {
        const float* const row = from + from_.position(c, y, 0);
        for (std::size_t x = 0; x < from_.width; ++x) *next++ = row[x];
      }
    from = scratch;
  }
  if (slices_->in_steps()) {
    DWF_KERNEL(set_, permute_vector)(slices_->steps(), from, relu, to);
  } else {
    DWF_KERNEL(set_, gather_vector)(slices_->slices(), from, relu, to);
  }
}

}  // namespace dwf
