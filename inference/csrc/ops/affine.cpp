#include <memory>
#include <vector>

#include "inputs.h"
#include "kernels/rows.h"
#include "ops/bind.h"
#include "ops/images.h"

namespace dwf {
namespace {

using namespace nb::literals;

class Affine : public Op {
 public:
  Affine(const Builder& builder, int input, int output, const float* scale, const float* shift, Activation activation)
      : Op({input}, output), set_(builder.set), from_(builder.layout(input)), to_(builder.layout(output)),
        activation_(activation), scale_(scale, scale + from_.channels), shift_(shift, shift + from_.channels) {}

  void run(const Tile& tile) const override {
    const auto apply = DWF_KERNEL(set_, affine_row);
    const std::size_t each = to_.height * to_.width;
    for_runs(true, [&](std::size_t f, std::size_t size) {
      const std::size_t channel = f / each;
      apply(tile.values[inputs[0]] + from_.position(f) * tile.lanes, size * tile.lanes, scale_[channel], shift_[channel],
            activation_, tile.values[output] + to_.position(f) * tile.lanes);
    }, to_, from_);
  }

  bool in_place() const override { return true; }
  const char* kernel() const override { return "affine"; }
  std::size_t bytes() const override { return 2 * scale_.size() * sizeof(float); }

 private:
  const InstructionSet set_;
  const Layout from_, to_;
  const Activation activation_;
  const std::vector<float> scale_, shift_;
};

}  // namespace

void bind_affine(BuilderClass& builder) {
  builder.def(
      "affine",
      [](Builder& self, int input, int output, const Floats& scale, const Floats& shift, const std::string& activation,
         double slope) {
        const Layout &from = self.layout(input), &to = self.layout(output);
        require(same_size(from, to), "input and output have different sizes");
        require(scale.size() == to.channels && shift.size() == to.channels,
                "scale and shift have " + std::to_string(scale.size()) + " and " + std::to_string(shift.size()) +
                    " elements, expected " + std::to_string(to.channels));
        self.add(std::make_unique<Affine>(self, input, output, scale.data(), shift.data(),
                                          find_activation(activation, slope)));
      },
      "input"_a, "output"_a, "scale"_a.noconvert(), "shift"_a.noconvert(), "activation"_a = "", "slope"_a = 0.0);
}

}  // namespace dwf
