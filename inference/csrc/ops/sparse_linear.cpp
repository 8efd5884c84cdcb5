#include "kernels/sparse_linear.h"

#include <memory>

#include "inputs.h"
#include "memory.h"
#include "ops/bind.h"

namespace dwf {
namespace {

using namespace nb::literals;

class SparseLinear : public Op {
 public:
  SparseLinear(const Builder& builder, int input, int output, const Csr& csr, const float* bias, Activation activation)
      : Op({input}, output), activation_(activation), kernel_(DWF_KERNEL(builder.set, sparse_linear)) {
    const Layout &from = builder.layout(input), &to = builder.layout(output);
    for (std::size_t row = 0; row < csr.rows; ++row) {
      begins_.push_back(static_cast<std::uint32_t>(csr.begins[row]));
      outputs_.push_back(static_cast<std::uint32_t>(to.position(row)));
      bias_.push_back(bias != nullptr ? bias[row] : 0);
    }
    begins_.push_back(static_cast<std::uint32_t>(csr.size()));
    for (std::size_t k = 0; k < csr.size(); ++k)
      terms_.push_back({static_cast<std::uint32_t>(from.position(csr.indices[k])), csr.weights[k]});
  }

  void run(const Tile& tile) const override {
    const Rows rows{outputs_.size(), begins_.data(), outputs_.data(), terms_.data(), bias_.data()};
    kernel_(rows, tile.values[inputs[0]], tile.lanes, activation_, tile.values[output]);
  }

  const char* kernel() const override { return "sparse"; }
  std::size_t bytes() const override { return terms_.size() * sizeof(Term) + outputs_.size() * 12; }

 private:
  const Activation activation_;
  decltype(&baseline::sparse_linear) const kernel_;
  AlignedVector<std::uint32_t> begins_, outputs_;
  AlignedVector<Term> terms_;
  AlignedVector<float> bias_;
};

}  // namespace

void bind_sparse_linear(BuilderClass& builder) {
  builder.def(
      "sparse_linear",
      [](Builder& self, int input, int output, const Indices& begins, const Indices& indices, const Floats& weights,
         const nb::object& bias, const std::string& activation, double slope) {
        const std::size_t rows = self.layout(output).features(), columns = self.layout(input).features();
        const Csr csr = read_csr(rows, columns, begins, indices, weights);
        self.add(std::make_unique<SparseLinear>(self, input, output, csr, read_bias(bias, rows),
                                                find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "begins"_a.noconvert(), "indices"_a.noconvert(), "weights"_a.noconvert(),
      "bias"_a = nb::none(), "activation"_a = "", "slope"_a = 0.0);
}

}  // namespace dwf
