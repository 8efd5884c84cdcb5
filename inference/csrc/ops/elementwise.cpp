#include <memory>

#include "activation.h"
#include "inputs.h"
#include "kernels/activate.h"
#include "ops/bind.h"
#include "ops/images.h"

namespace dwf {
namespace {

using namespace nb::literals;

class Elementwise : public Op {
 public:
  Elementwise(const Builder& builder, int input, int output, Activation activation)
      : Op({input}, output), from_(builder.layout(input)), to_(builder.layout(output)), activation_(activation),
        activate_(DWF_KERNEL(builder.set, activate)) {}

  void run(const Tile& tile) const override {
    // Without the borders, which the function might not leave at zero.
    for_runs(false, [&](std::size_t f, std::size_t size) {
      activate_(tile.values[inputs[0]] + from_.position(f) * tile.lanes, size * tile.lanes, activation_,
                tile.values[output] + to_.position(f) * tile.lanes);
    }, to_, from_);
  }

  bool in_place() const override { return true; }
  const char* kernel() const override { return "elementwise"; }

 private:
  const Layout from_, to_;
  const Activation activation_;
  decltype(&baseline::activate) const activate_;
};

}  // namespace

void bind_elementwise(BuilderClass& builder) {
  builder.def(
      "elementwise",
      [](Builder& self, int input, int output, const std::string& activation, double slope) {
        require(same_size(self.layout(input), self.layout(output)), "input and output have different sizes");
        self.add(std::make_unique<Elementwise>(self, input, output, find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "activation"_a, "slope"_a = 0.0);
}

}  // namespace dwf
