#include "ops/panels.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace dwf {
namespace {

// Inputs of a panel in the first cache, leaving room for weights and outputs.
constexpr std::size_t kPanelBytes = 32 * 1024;
// Sums of a block of rows. Those of many panels are read and written once a panel, in no order, so they stay in the
// second cache, where the inputs of all panels are too. Those of one panel leave the second cache to its inputs; fewer
// rows would fall into buckets too small to be computed together.
constexpr std::size_t kPanelRowBytes = 256 * 1024, kRowBytes = 64 * 1024;
// Terms in a row of a panel below which loading and storing the row's sums costs more than the first cache saves.
constexpr double kLeastTerms = 5;

std::size_t panel_columns(const Csr& csr, std::size_t lanes) {
  const std::size_t most = kPanelBytes / (lanes * sizeof(float));
  const double entries = static_cast<double>(csr.rows) * static_cast<double>(csr.columns);
  if (csr.columns <= most || static_cast<double>(csr.size() * most) < kLeastTerms * entries)
    return std::max<std::size_t>(1, csr.columns);
  // All of about the same width, rather a little too wide than one more.
  const std::size_t count = (csr.columns + most / 2) / most;
  return (csr.columns + count - 1) / count;
}

std::size_t rows_of_block(std::size_t rows, std::size_t lanes, std::size_t panels) {
  const std::size_t most = (panels > 1 ? kPanelRowBytes : kRowBytes) / (lanes * sizeof(float));
  return std::max<std::size_t>(1, rows <= 2 * most ? rows : most);
}

}  // namespace

PackedPanels::PackedPanels(const Csr& csr, const float* bias, const Layout& from, std::size_t lanes) {
  const std::size_t width = panel_columns(csr, lanes);
  const std::size_t panels = std::max<std::size_t>(1, (csr.columns + width - 1) / width);
  const std::size_t block = block_rows_ = rows_of_block(csr.rows, lanes, panels);
  std::vector<std::size_t> next(block), ends(block), order(block);
  for (std::size_t row = 0; row < csr.rows; row += block) {
    const std::size_t rows = std::min(block, csr.rows - row);
    for (std::size_t r = 0; r < rows; ++r) next[r] = static_cast<std::size_t>(csr.begins[row + r]);
    for (std::size_t p = 0; p < panels; ++p) {
      const bool first = p == 0, last = p + 1 == panels;
      const auto limit = static_cast<std::int64_t>(last ? csr.columns : (p + 1) * width);
      for (std::size_t r = 0; r < rows; ++r) {
        const std::int32_t* const rest = csr.indices + csr.begins[row + r + 1];
        ends[r] = static_cast<std::size_t>(std::lower_bound(csr.indices + next[r], rest, limit) - csr.indices);
      }
      const auto terms_of = [&](std::size_t r) { return ends[r] - next[r]; };
      std::iota(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(rows), std::size_t{0});
      std::stable_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(rows),
                       [&](std::size_t a, std::size_t b) { return terms_of(a) < terms_of(b); });
      bool fresh = true;
      for (std::size_t i = 0; i < rows; ++i) {
        const std::size_t r = order[i];
        if (terms_of(r) == 0 && !first && !last) continue;
        if (fresh || buckets_.back().terms != terms_of(r))
          buckets_.push_back({0, static_cast<std::uint32_t>(terms_of(r))});
        fresh = false;
        buckets_.back().rows += 1;
        outputs_.push_back(static_cast<std::uint32_t>(r));
        if (first) bias_.push_back(bias != nullptr ? bias[row + r] : 0);
        for (std::size_t k = next[r]; k < ends[r]; ++k)
          terms_.push_back({static_cast<std::uint32_t>(from.position(csr.indices[k])), csr.weights[k]});
        next[r] = ends[r];
      }
      pieces_.push_back({static_cast<std::uint32_t>(buckets_.size()), static_cast<std::uint32_t>(row),
                         static_cast<std::uint32_t>(rows), first, last});
    }
  }
}

std::size_t PackedPanels::bytes() const {
  return pieces_.size() * sizeof(Piece) + buckets_.size() * sizeof(Bucket) + terms_.size() * sizeof(Term) +
         (outputs_.size() + bias_.size()) * 4;
}

}  // namespace dwf
