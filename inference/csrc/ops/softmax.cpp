#include <memory>

#include "inputs.h"
#include "kernels/rows.h"
#include "ops/bind.h"
#include "ops/images.h"

namespace dwf {
namespace {

using namespace nb::literals;

// Over the channels.
class Softmax : public Op {
 public:
  Softmax(const Builder& builder, int input, int output)
      : Op({input}, output), set_(builder.set), from_(builder.layout(input)), to_(builder.layout(output)) {}

  void run(const Tile& tile) const override {
    const auto apply = DWF_KERNEL(set_, softmax);
    const std::size_t lanes = tile.lanes;
    for (std::size_t row = 0; row < to_.height; ++row)
      apply(tile.values[inputs[0]] + from_.position(0, row, 0) * lanes, to_.channels,
            from_.stored_height() * from_.stored_width() * lanes, to_.width * lanes,
            to_.stored_height() * to_.stored_width() * lanes, tile.values[output] + to_.position(0, row, 0) * lanes);
  }

  const char* kernel() const override { return "softmax"; }

 private:
  const InstructionSet set_;
  const Layout from_, to_;
};

}  // namespace

void bind_softmax(BuilderClass& builder) {
  builder.def(
      "softmax",
      [](Builder& self, int input, int output) {
        require(same_size(self.layout(input), self.layout(output)), "input and output have different sizes");
        self.add(std::make_unique<Softmax>(self, input, output));
      },
      "input"_a, "output"_a);
}

}  // namespace dwf
