#include "kernels/pool.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "inputs.h"
#include "ops/bind.h"

namespace dwf {
namespace {

using namespace nb::literals;

// Of one dimension, for each output: the first input of its window, how many there are, and the divisor of a mean.
using Spans = std::vector<std::tuple<std::size_t, std::size_t, double>>;

// Whether windows are of two inputs, side by side, and leave none out.
bool are_pairs(const std::vector<Span>& spans, std::size_t inputs) {
  if (inputs != 2 * spans.size()) return false;
  for (std::size_t i = 0; i < spans.size(); ++i)
    if (spans[i].first != 2 * i || spans[i].count != 2 || spans[i].divisor != spans[0].divisor) return false;
  return true;
}

class Pool : public Op {
 public:
  Pool(const Builder& builder, int input, int output, bool largest, std::vector<Span> rows, std::vector<Span> columns,
       std::array<std::size_t, 2> steps)
      : Op({input}, output), set_(builder.set), from_(builder.layout(input)), to_(builder.layout(output)),
        largest_(largest), rows_(std::move(rows)), columns_(std::move(columns)), steps_(steps),
        in_pairs_(steps == std::array<std::size_t, 2>{1, 1} && from_.dense() && are_pairs(rows_, from_.height) &&
                  are_pairs(columns_, from_.width) &&
                  (to_.width >= kManyColumns || (to_.width & (to_.width - 1)) == 0)) {}

  void run(const Tile& tile) const override {
    const std::size_t lanes = tile.lanes;
    const Pooling pooling{largest_,
                          to_.channels,
                          to_.height,
                          to_.width,
                          from_.width,
                          steps_[0],
                          steps_[1],
                          from_.stored_height() * from_.stored_width() * lanes,
                          from_.stored_width() * lanes,
                          to_.stored_height() * to_.stored_width() * lanes,
                          to_.stored_width() * lanes};
    const float* const from = tile.values[inputs[0]] + from_.position(0) * lanes;
    float* const to = tile.values[output] + to_.position(0) * lanes;
    if (lanes == 1 && in_pairs_) {
      const float scale = largest_ ? 1 : 1 / (rows_[0].divisor * columns_[0].divisor);
      DWF_KERNEL(set_, pool_pairs)(pooling, scale, from, to);
    } else if (lanes == 1) {
      DWF_KERNEL(set_, pool_single)(pooling, rows_.data(), columns_.data(), from, tile.scratch, to);
    } else {
      DWF_KERNEL(set_, pool_tile)(pooling, rows_.data(), columns_.data(), from, lanes, to);
    }
  }

  std::size_t scratch(std::size_t lanes) const override { return lanes == 1 ? from_.width : 0; }
  const char* kernel() const override { return largest_ ? "largest of windows" : "mean of windows"; }

 private:
  const InstructionSet set_;
  const Layout from_, to_;
  const bool largest_;
  const std::vector<Span> rows_, columns_;
  const std::array<std::size_t, 2> steps_;
  const bool in_pairs_;
};

std::vector<Span> read_spans(const Spans& spans, std::size_t outputs, std::size_t inputs, std::size_t step) {
  require(spans.size() == outputs, "there are " + std::to_string(spans.size()) + " windows for " +
                                       std::to_string(outputs) + " outputs along a dimension");
  require(step >= 1, "inputs of a window are at least 1 apart");
  std::vector<Span> read;
  for (const auto& [first, count, divisor] : spans) {
    require(count == 0 || (first < inputs && count - 1 <= (inputs - 1 - first) / step),
            "a window of " + std::to_string(count) + " from " + std::to_string(first) + " on is not inside of " +
                std::to_string(inputs));
    read.push_back({count == 0 ? 0 : first, count, static_cast<float>(divisor)});
  }
  return read;
}

void add_pool(Builder& self, int input, int output, bool largest, const Spans& rows, const Spans& columns,
              std::array<std::size_t, 2> steps) {
  const Layout &from = self.layout(input), &to = self.layout(output);
  require(from.channels == to.channels, "input and output have different numbers of channels");
  self.add(std::make_unique<Pool>(self, input, output, largest, read_spans(rows, to.height, from.height, steps[0]),
                                  read_spans(columns, to.width, from.width, steps[1]), steps));
}

}  // namespace

void bind_pool(BuilderClass& builder) {
  builder.def("pool", add_pool, "input"_a, "output"_a, "largest"_a, "rows"_a, "columns"_a,
              "steps"_a = std::array<std::size_t, 2>{1, 1});
}

}  // namespace dwf
