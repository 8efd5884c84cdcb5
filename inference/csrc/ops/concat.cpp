#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "inputs.h"
#include "ops/bind.h"
#include "ops/images.h"

namespace dwf {
namespace {

using namespace nb::literals;

// The features of the inputs, one input after the other: of one input, a change of shape, and of images, their channels.
class Concat : public Op {
 public:
  Concat(const Builder& builder, std::vector<int> inputs, int output)
      : Op(std::move(inputs), output), to_(builder.layout(output)) {
    for (const int input : this->inputs) from_.push_back(builder.layout(input));
  }

  void run(const Tile& tile) const override {
    float* const to = tile.values[output];
    std::size_t before = 0;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Layout& layout = from_[k];
      const float* const from = tile.values[inputs[k]];
      // As far as neither side comes to the end of a row.
      std::size_t size;
      for (std::size_t f = 0; f < layout.features(); f += size) {
        const std::size_t target = before + f;
        size = layout.features() - f;
        if (!layout.dense()) size = std::min(size, layout.width - f % layout.width);
        if (!to_.dense()) size = std::min(size, to_.width - target % to_.width);
        std::memcpy(to + to_.position(target) * tile.lanes, from + layout.position(f) * tile.lanes,
                    size * tile.lanes * sizeof(float));
      }
      before += layout.features();
    }
  }

  const char* kernel() const override { return inputs.size() == 1 ? "reshape" : "concat"; }

 private:
  std::vector<Layout> from_;
  const Layout to_;
};

}  // namespace

void bind_concat(BuilderClass& builder) {
  builder.def(
      "concat",
      [](Builder& self, std::vector<int> inputs, int output) {
        std::size_t features = 0;
        for (const int input : inputs) features += self.layout(input).features();
        require(features == self.layout(output).features(),
                "the inputs have " + std::to_string(features) + " elements together, the output " +
                    std::to_string(self.layout(output).features()));
        self.add(std::make_unique<Concat>(self, std::move(inputs), output));
      },
      "inputs"_a, "output"_a);
}

}  // namespace dwf
