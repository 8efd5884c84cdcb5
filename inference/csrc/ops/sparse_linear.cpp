#include "kernels/sparse_linear.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "inputs.h"
#include "kernels/activate.h"
#include "memory.h"
#include "ops/bind.h"
#include "ops/slices.h"

namespace dwf {
namespace {

using namespace nb::literals;

// Inputs of a panel in the first cache, leaving room for weights and outputs.
constexpr std::size_t kPanelBytes = 32 * 1024;
// Terms in a row of a panel below which loading and storing the row's sums costs more than the cache saves.
constexpr double kLeastTerms = 5;

// A matrix as `Panels`.
class PackedPanels {
 public:
  PackedPanels(const Csr& csr, const float* bias, const Layout& from, const Layout& to, std::size_t panel_columns) {
    const std::size_t count = std::max<std::size_t>(1, (csr.columns + panel_columns - 1) / panel_columns);
    std::vector<std::size_t> next(csr.rows);  // of each row's terms
    for (std::size_t r = 0; r < csr.rows; ++r) next[r] = static_cast<std::size_t>(csr.begins[r]);
    std::vector<std::size_t> ends(csr.rows), order(csr.rows);
    for (std::size_t p = 0; p < count; ++p) {
      begins_.push_back(static_cast<std::uint32_t>(buckets_.size()));
      const std::size_t limit = p + 1 < count ? (p + 1) * panel_columns : csr.columns;
      for (std::size_t r = 0; r < csr.rows; ++r) {
        const std::int32_t *const begin = csr.indices + next[r], *const end = csr.indices + csr.begins[r + 1];
        ends[r] = next[r] + static_cast<std::size_t>(std::lower_bound(begin, end, static_cast<std::int64_t>(limit)) - begin);
      }
      const auto terms_of = [&](std::size_t r) { return ends[r] - next[r]; };
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return terms_of(a) < terms_of(b); });
      const bool every_row = p == 0 || p + 1 == count;
      bool fresh = true;
      for (const std::size_t r : order) {
        if (terms_of(r) == 0 && !every_row) continue;
        if (fresh || buckets_.back().terms != terms_of(r)) buckets_.push_back({0, static_cast<std::uint32_t>(terms_of(r))});
        fresh = false;
        buckets_.back().rows += 1;
        outputs_.push_back(static_cast<std::uint32_t>(to.position(r)));
        if (p == 0) bias_.push_back(bias != nullptr ? bias[r] : 0);
        for (std::size_t k = next[r]; k < ends[r]; ++k)
          terms_.push_back({static_cast<std::uint32_t>(from.position(csr.indices[k])), csr.weights[k]});
      }
      next = ends;
    }
    begins_.push_back(static_cast<std::uint32_t>(buckets_.size()));
  }

  Panels view() const {
    return {begins_.size() - 1, begins_.data(), buckets_.data(), outputs_.data(), terms_.data(), bias_.data()};
  }

  std::size_t bytes() const {
    return terms_.size() * sizeof(Term) + buckets_.size() * sizeof(Bucket) +
           (begins_.size() + outputs_.size() + bias_.size()) * 4;
  }

 private:
  AlignedVector<std::uint32_t> begins_, outputs_;
  AlignedVector<Bucket> buckets_;
  AlignedVector<Term> terms_;
  AlignedVector<float> bias_;
};

std::size_t panel_columns(const Csr& csr, std::size_t lanes) {
  const std::size_t columns = kPanelBytes / (lanes * sizeof(float));
  const double density = static_cast<double>(csr.size()) / std::max<double>(1, static_cast<double>(csr.rows * csr.columns));
  return density * static_cast<double>(columns) >= kLeastTerms ? columns : std::max<std::size_t>(1, csr.columns);
}

class SparseLinear : public Op {
 public:
  SparseLinear(const Builder& builder, int input, int output, const Csr& csr, const float* bias, Activation activation)
      : Op({input}, output),
        activation_(activation),
        panels_(csr, bias, builder.layout(input), builder.layout(output), panel_columns(csr, builder.widest)),
        slices_(csr, bias, builder.layout(input), builder.layout(output), builder.set),
        on_lanes_(DWF_KERNEL(builder.set, sparse_linear)),
        gather_(DWF_KERNEL(builder.set, gather_vector)),
        permute_(DWF_KERNEL(builder.set, permute_vector)),
        activate_(DWF_KERNEL(builder.set, activate)),
        rows_(csr.rows) {}

  void run(const Tile& tile) const override {
    const float* const from = tile.values[inputs[0]];
    float* const to = tile.values[output];
    if (tile.lanes > 1) return on_lanes_(panels_.view(), from, tile.lanes, activation_, to);
    const bool relu = activation_.function == Function::relu;
    if (slices_.in_steps()) {
      permute_(slices_.steps(), from, relu, to);
    } else {
      gather_(slices_.slices(), from, relu, to);
    }
    if (!is_cheap(activation_.function)) activate_(to, rows_, activation_, to);
  }

  const char* kernel() const override { return "sparse"; }
  std::size_t bytes() const override { return panels_.bytes() + slices_.bytes(); }

 private:
  const Activation activation_;
  const PackedPanels panels_;
  const PackedSlices slices_;
  decltype(&baseline::sparse_linear) const on_lanes_;
  decltype(&baseline::gather_vector) const gather_;
  decltype(&baseline::permute_vector) const permute_;
  decltype(&baseline::activate) const activate_;
  const std::size_t rows_;
};

}  // namespace

void bind_sparse_linear(BuilderClass& builder) {
  builder.def(
      "sparse_linear",
      [](Builder& self, int input, int output, const Indices& begins, const Indices& indices, const Floats& weights,
         const nb::object& bias, const std::string& activation, double slope) {
        const std::size_t rows = self.layout(output).features(), columns = self.layout(input).features();
        require(self.layout(output).dense(), "the output of a linear layer cannot have a border");
        const Csr csr = read_csr(rows, columns, begins, indices, weights);
        self.add(std::make_unique<SparseLinear>(self, input, output, csr, read_bias(bias, rows),
                                                find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "begins"_a.noconvert(), "indices"_a.noconvert(), "weights"_a.noconvert(),
      "bias"_a = nb::none(), "activation"_a = "", "slope"_a = 0.0);
}

}  // namespace dwf
