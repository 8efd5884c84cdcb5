#include <memory>

#include "activation.h"
#include "inputs.h"
#include "kernels/activate.h"
#include "ops/bind.h"

namespace dwf {
namespace {

using namespace nb::literals;

class Elementwise : public Op {
 public:
  Elementwise(const Builder& builder, int input, int output, Activation activation)
      : Op({input}, output), layout_(builder.layout(input)), activation_(activation),
        activate_(DWF_KERNEL(builder.set, activate)) {}

  void run(const Tile& tile) const override {
    // With its border, which the function might not leave at zero, one row of the image after the other.
    const float* const from = tile.values[inputs[0]];
    float* const to = tile.values[output];
    const std::size_t run = layout_.dense() ? layout_.features() : layout_.width;
    for (std::size_t f = 0; f < layout_.features(); f += run) {
      const std::size_t begin = layout_.position(f) * tile.lanes;
      activate_(from + begin, run * tile.lanes, activation_, to + begin);
    }
  }

  bool in_place() const override { return true; }
  const char* kernel() const override { return "elementwise"; }

 private:
  const Layout layout_;
  const Activation activation_;
  decltype(&baseline::activate) const activate_;
};

}  // namespace

void bind_elementwise(BuilderClass& builder) {
  builder.def(
      "elementwise",
      [](Builder& self, int input, int output, const std::string& activation, double slope) {
        require(self.layout(input) == self.layout(output), "input and output have different layouts");
        self.add(std::make_unique<Elementwise>(self, input, output, find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "activation"_a, "slope"_a = 0.0);
}

}  // namespace dwf
