#include <memory>

#include "inputs.h"
#include "kernels/rows.h"
#include "ops/bind.h"
#include "ops/images.h"

namespace dwf {
namespace {

using namespace nb::literals;

class Add : public Op {
 public:
  Add(const Builder& builder, int first, int second, int output, Activation activation)
      : Op({first, second}, output), set_(builder.set), a_(builder.layout(first)), b_(builder.layout(second)),
        to_(builder.layout(output)), activation_(activation) {}

  void run(const Tile& tile) const override {
    const auto add = DWF_KERNEL(set_, add_rows);
    const float *const a = tile.values[inputs[0]], *const b = tile.values[inputs[1]];
    float* const to = tile.values[output];
    for_runs(false, [&](std::size_t f, std::size_t size) {
      add(a + a_.position(f) * tile.lanes, b + b_.position(f) * tile.lanes, size * tile.lanes, activation_,
          to + to_.position(f) * tile.lanes);
    }, to_, a_, b_);
  }

  bool in_place() const override { return true; }
  const char* kernel() const override { return "add"; }

 private:
  const InstructionSet set_;
  const Layout a_, b_, to_;
  const Activation activation_;
};

}  // namespace

void bind_add(BuilderClass& builder) {
  builder.def(
      "add",
      [](Builder& self, int first, int second, int output, const std::string& activation, double slope) {
        require(same_size(self.layout(first), self.layout(output)) && same_size(self.layout(second), self.layout(output)),
                "inputs and output have different sizes");
        self.add(std::make_unique<Add>(self, first, second, output, find_activation(activation, slope)));
      },
      "first"_a, "second"_a, "output"_a, "activation"_a = "", "slope"_a = 0.0);
}

}  // namespace dwf
