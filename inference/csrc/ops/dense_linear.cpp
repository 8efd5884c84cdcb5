#include "kernels/dense_linear.h"

#include <algorithm>
#include <memory>

#include "inputs.h"
#include "kernels/activate.h"
#include "memory.h"
#include "ops/bind.h"

namespace dwf {
namespace {

using namespace nb::literals;

class DenseLinear : public Op {
 public:
  DenseLinear(const Builder& builder, int input, int output, const float* weights, const float* bias,
              Activation activation)
      : Op({input}, output),
        from_(builder.layout(input)),
        rows_(builder.layout(output).features()),
        activation_(activation),
        on_lanes_(DWF_KERNEL(builder.set, dense_linear)),
        on_one_(DWF_KERNEL(builder.set, dense_vector)),
        activate_(DWF_KERNEL(builder.set, activate)) {
    const std::size_t columns = from_.features(), filled = (rows_ + kRowBlock - 1) / kRowBlock * kRowBlock;
    weights_.assign(weights, weights + rows_ * columns);
    if (bias != nullptr) bias_.assign(bias, bias + rows_);
    bias_.resize(filled);
    if (builder.widest == 1) return;
    blocks_.resize(filled * columns);
    for (std::size_t r = 0; r < rows_; ++r)
      for (std::size_t k = 0; k < columns; ++k)
        blocks_[(r / kRowBlock * columns + k) * kRowBlock + r % kRowBlock] = weights[r * columns + k];
  }

  void run(const Tile& tile) const override {
    const float* from = tile.values[inputs[0]];
    if (!from_.dense()) {
      const std::size_t size = from_.width * tile.lanes;
      for (std::size_t f = 0; f < from_.features(); f += from_.width)
        std::copy_n(from + from_.position(f) * tile.lanes, size, tile.scratch + f * tile.lanes);
      from = tile.scratch;
    }
    float* const to = tile.values[output];
    if (tile.lanes > 1) {
      on_lanes_({rows_, from_.features(), blocks_.data(), bias_.data()}, from, tile.lanes, activation_, to);
      return;
    }
    on_one_(weights_.data(), bias_.data(), rows_, from_.features(), from, activation_.function == Function::relu, to);
    if (!is_cheap(activation_.function)) activate_(to, rows_, activation_, to);
  }

  std::size_t scratch(std::size_t lanes) const override { return from_.dense() ? 0 : from_.features() * lanes; }
  const char* kernel() const override { return "dense"; }
  std::size_t bytes() const override { return (weights_.size() + blocks_.size() + bias_.size()) * sizeof(float); }

 private:
  const Layout from_;
  const std::size_t rows_;
  const Activation activation_;
  decltype(&baseline::dense_linear) const on_lanes_;
  decltype(&baseline::dense_vector) const on_one_;
  decltype(&baseline::activate) const activate_;
  AlignedVector<float> weights_, blocks_, bias_;
};

}  // namespace

void bind_dense_linear(BuilderClass& builder) {
  builder.def(
      "dense_linear",
      [](Builder& self, int input, int output, const Floats& weights, const nb::object& bias,
         const std::string& activation, double slope) {
        const std::size_t rows = self.layout(output).features(), columns = self.layout(input).features();
        require(self.layout(output).dense(), "the output of a linear layer cannot have a border");
        require(weights.ndim() == 2 && weights.shape(0) == rows && weights.shape(1) == columns,
                "weights have shape " + shape_of(weights.ndim(), weights.shape_ptr()) + ", expected [" +
                    std::to_string(rows) + ", " + std::to_string(columns) + "]");
        self.add(std::make_unique<DenseLinear>(self, input, output, weights.data(), read_bias(bias, rows),
                                               find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "weights"_a.noconvert(), "bias"_a = nb::none(), "activation"_a = "", "slope"_a = 0.0);
}

}  // namespace dwf
