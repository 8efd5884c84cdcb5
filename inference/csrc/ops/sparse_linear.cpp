#include "kernels/sparse_linear.h"

#include <memory>

#include "inputs.h"
#include "kernels/activate.h"
#include "ops/bind.h"
#include "ops/panels.h"
#include "ops/slices.h"

namespace dwf {
namespace {

using namespace nb::literals;

class SparseLinear : public Op {
 public:
  SparseLinear(const Builder& builder, int input, int output, const Csr& csr, const float* bias, Activation activation)
      : Op({input}, output),
        activation_(activation),
        panels_(csr, bias, builder.layout(input), builder.widest),
        slices_(csr, bias, builder.layout(input), builder.layout(output), builder.set),
        on_lanes_(DWF_KERNEL(builder.set, sparse_linear)),
        gather_(DWF_KERNEL(builder.set, gather_vector)),
        permute_(DWF_KERNEL(builder.set, permute_vector)),
        activate_(DWF_KERNEL(builder.set, activate)),
        rows_(csr.rows) {}

  void run(const Tile& tile) const override {
    const float* const from = tile.values[inputs[0]];
    float* const to = tile.values[output];
    if (tile.lanes > 1) {
      const bool rows = tile.rows.to != nullptr;
      on_lanes_(panels_.view(), from, tile.lanes, activation_, rows ? tile.scratch : to, tile.rows);
      return;
    }
    const bool relu = activation_.function == Function::relu;
    if (slices_.in_steps()) {
      permute_(slices_.steps(), from, relu, to);
    } else {
      gather_(slices_.slices(), from, relu, to);
    }
    if (!is_cheap(activation_.function)) activate_(to, rows_, activation_, to);
  }

  bool stores_rows() const override { return true; }
  std::size_t scratch(std::size_t lanes) const override { return panels_.block_rows() * lanes; }
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
